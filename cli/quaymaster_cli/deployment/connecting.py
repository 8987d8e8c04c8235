"""From the deployment that is meant to a client of its API."""

import os
from dataclasses import dataclass

import httpx

from quaymaster_cli.deployment.client import ApiClient
from quaymaster_cli.deployment.signing import Signature
from quaymaster_cli.deployment.target import Target, Where, find_target

TIMEOUT = httpx.Timeout(30, connect=10)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A deployment's API, and the AWS account it lies in as the user may act there."""

    api: ApiClient
    target: Target


def connect(where: Where) -> Connection:
    """Find the deployment. Calls nothing of its API yet. Raises Unreachable."""
    target = find_target(where, os.environ)
    url = httpx.URL(target.api_url)
    headers: dict[str, str] = {}
    if url.host.endswith(".localhost"):
        # Such a name need not resolve; the local cloud tells function URLs apart by the Host header.
        headers["Host"] = url.netloc.decode()
        url = url.copy_with(host="127.0.0.1")
    signature = Signature(target.session, target.region)
    http = httpx.Client(base_url=url, auth=signature, headers=headers, timeout=TIMEOUT)
    return Connection(api=ApiClient(http, httpx.Client(timeout=TIMEOUT)), target=target)
