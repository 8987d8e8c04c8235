"""From the deployment that is meant to a client of its API."""

import os

import httpx

from quaymaster_cli.client import ApiClient
from quaymaster_cli.session import Connection, Where
from quaymaster_cli.signing import Signature
from quaymaster_cli.target import find_target

TIMEOUT = httpx.Timeout(30, connect=10)


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
