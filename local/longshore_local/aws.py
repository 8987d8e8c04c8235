"""boto3 clients of the local cloud's root, made once per service."""

from __future__ import annotations

import threading
from typing import Any

import boto3
import botocore.config

from longshore_local.settings import REGION, ROOT_ACCESS_KEY, ROOT_SECRET_KEY


class RootClients:
    """Makes and keeps clients for `endpoint_url`, signed as root; safe to share between threads.

    Nothing of the caller's AWS configuration is read except the endpoint given here.
    """

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url
        self.session = boto3.Session(
            aws_access_key_id=ROOT_ACCESS_KEY, aws_secret_access_key=ROOT_SECRET_KEY, region_name=REGION
        )
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        """The client of one service, such as `sqs`."""
        with self._lock:
            if service not in self._clients:
                config = botocore.config.Config(
                    s3={"addressing_style": "path"}, max_pool_connections=50, retries={"mode": "standard"}
                )
                make: Any = self.session.client
                self._clients[service] = make(service, endpoint_url=self.endpoint_url, config=config)
            return self._clients[service]
