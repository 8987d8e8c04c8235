"""The deployed API as the demo calls it: signed requests, the shared models, and a bounded patience."""

import asyncio
import json
import zlib
from collections.abc import Generator
from typing import Any

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import BaseModel
from quaymaster.domain import api
from quaymaster.domain.requests import Workspace

from quaymaster_local.demo.errors import ApiFailed
from quaymaster_local.deployment import Deployment

TRIES = 4
PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 30.0
"""On a busy machine a function's first call may take many seconds."""
_AGAIN = frozenset({429, 500, 502, 503, 504})
_GZIP = 31
"""zlib's window size for a gzip stream."""


class Signature(httpx.Auth):
    """SigV4 for a function URL."""

    requires_request_body = True

    def __init__(self, credentials: Credentials, region: str) -> None:
        self._signer = SigV4Auth(credentials, "lambda", region)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the signature's headers."""
        headers = {name: request.headers[name] for name in ("Host", "Content-Type") if name in request.headers}
        signed = AWSRequest(method=request.method, url=str(request.url), data=request.content, headers=headers)
        self._signer.add_auth(signed)
        request.headers.update({name: signed.headers[name] for name in ("Authorization", "X-Amz-Date")})
        yield request


class DemoApi:
    """What the demo reads and creates. Every call raises ApiFailed in the end."""

    def __init__(self, deployment: Deployment) -> None:
        secrets = deployment.credentials
        credentials = Credentials(secrets["access_key_id"], secrets["secret_access_key"])
        self._url = deployment.api_url.rstrip("/")
        self._auth = Signature(credentials, deployment.region)
        # No proxy of the caller's environment stands between this machine and itself.
        self._http = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def create_pool(self, request: api.CreatePool) -> api.CreatedPool:
        """Create a pool. Never repeated: the first try may have done it."""
        return api.CreatedPool.model_validate(await self._call("POST", "/pools", request, tries=1))

    async def pools(self) -> list[api.PoolSummary]:
        """All pools, with what they are doing."""
        return api.PoolList.model_validate(await self._call("GET", "/pools")).pools

    async def workers(self, pool_id: str) -> list[api.WorkerView]:
        """A pool's workers, as far as one page shows them: those that are there, or are missed."""
        return api.WorkerList.model_validate(await self._call("GET", f"/pools/{pool_id}/workers")).workers

    async def runs(self, pool_id: str) -> list[api.RunSummary]:
        """A pool's runs."""
        return api.RunList.model_validate(await self._call("GET", f"/pools/{pool_id}/runs")).runs

    async def run(self, run: str) -> api.RunView:
        """A run in full."""
        return api.RunView.model_validate(await self._call("GET", f"/runs/{run}"))

    async def why(self, run: str) -> str:
        """Why a run is where it is, in one line."""
        return api.Explanation.model_validate(await self._call("GET", f"/runs/{run}/why")).why

    async def log(self, run: str, after: str | None, *, watch: bool) -> api.LogView:
        """What lies of a run's log behind a cursor; `watch` has its worker ship it every second for a while."""
        query = {"watch": "true"} if watch else {}
        query |= {"after": after} if after else {}
        return api.LogView.model_validate(await self._call("GET", f"/runs/{run}/logs", query=query))

    async def read(self, piece: api.LogPiece) -> list[dict[str, Any]]:
        """The lines of one object of a log, by its presigned link."""
        answer = await self._send(self._http.build_request("GET", piece.url), None)
        return [json.loads(line) for line in zlib.decompress(answer.content, _GZIP).splitlines()]

    async def upload(self, pool_id: str, packed: bytes, sha256: str) -> Workspace:
        """Put a packed workspace where the runs of a pool may fetch it."""
        place = api.Upload.model_validate(await self._call("POST", "/inputs", api.PrepareUpload(pool=pool_id)))
        await self._send(self._http.build_request("PUT", place.url, content=packed), None)
        return Workspace(key=place.key, sha256=sha256)

    async def _call(
        self,
        method: str,
        path: str,
        body: BaseModel | None = None,
        *,
        query: dict[str, str] | None = None,
        tries: int = TRIES,
    ) -> Any:
        content = body.model_dump_json(by_alias=True, exclude_none=True) if body else None
        headers = {"Content-Type": "application/json"} if body else {}
        request = self._http.build_request(method, self._url + path, content=content, headers=headers, params=query)
        return (await self._send(request, self._auth, tries)).json()

    async def _send(self, request: httpx.Request, auth: httpx.Auth | None, tries: int = TRIES) -> httpx.Response:
        problem = ""
        for _ in range(tries):
            try:
                answer = await self._http.send(request, auth=auth)
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
            else:
                if answer.is_success:
                    return answer
                problem = f"{answer.status_code} {answer.text[:200]}"
                if answer.status_code not in _AGAIN:
                    break
            await asyncio.sleep(PAUSE_SECONDS)
        raise ApiFailed(f"{request.method} {request.url.path} failed: {problem}")
