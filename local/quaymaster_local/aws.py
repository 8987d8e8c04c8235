"""boto3 clients of the local cloud's root, made once per service."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any, cast

import boto3
import botocore.config
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from quaymaster_local.settings import REGION, ROOT_ACCESS_KEY, ROOT_SECRET_KEY


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
                self._clients[service] = cast(Any, self.session).client(
                    service, endpoint_url=self.endpoint_url, config=config
                )
            return self._clients[service]

    def close(self) -> None:
        """Close the connections of every client made here."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def order_fault(self, ecs_endpoint_url: str, fault: Mapping[str, Any]) -> None:
        """Let the next RunTask go wrong; see `ecs.faults` for the kinds."""
        body = json.dumps(fault).encode()
        url = f"{ecs_endpoint_url}/_quaymaster/faults"
        request = AWSRequest(method="POST", url=url, data=body)
        SigV4Auth(Credentials(ROOT_ACCESS_KEY, ROOT_SECRET_KEY), "ecs", REGION).add_auth(request)
        sent = urllib.request.Request(url, data=body, headers=dict(request.headers.items()))
        with urllib.request.urlopen(sent, timeout=10):
            pass
