"""Presigned requests to the object store."""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Protocol

import httpx
from quaymaster.domain.messages import PostGrant, PutGrant

from quaymaster_worker.errors import GrantRefused, UploadError, UploadFailed, UploadRefused

TIMEOUT = httpx.Timeout(60, connect=10)
_MAY_PASS = frozenset({408, 409, 425, 429})
# S3's reference, "Error responses": each of these is a 400.
_EXPIRED = frozenset({"ExpiredToken", "TokenRefreshRequired", "InvalidToken"})
_PASSING = frozenset({"RequestTimeout", "IncompleteBody", "BadDigest", "InternalError", "SlowDown"})
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
LONGEST_ERROR = 64 * 1024


class Store(Protocol):
    """Where chunks and logs go. Each raises an UploadError."""

    async def post(self, grant: PostGrant, name: str, body: bytes) -> None:
        """Put one object below the grant's prefix."""
        ...

    async def put(self, grant: PutGrant, size: int, body: Callable[[], Iterable[bytes]]) -> None:
        """Put the grant's object, unless it is already there, which is as good."""
        ...


class PresignedStore:
    """The store behind presigned URLs; `stored` is told when each upload was sent that is there now.

    The lease counts from then: the control plane counts from the moment that the store writes down, which is later.
    """

    def __init__(
        self, client: Callable[[], httpx.AsyncClient], clock: Callable[[], float], stored: Callable[[float], None]
    ) -> None:
        self._client = client
        self._clock = clock
        self._stored = stored

    async def post(self, grant: PostGrant, name: str, body: bytes) -> None:
        """Put one object below the grant's prefix. Raises an UploadError."""
        if len(body) > grant.max_bytes:
            raise UploadRefused(f"{name} has {len(body)} bytes, the grant allows {grant.max_bytes}")
        form = {**grant.fields, "key": grant.key_prefix + name}
        await self._send("POST", grant.url, data=form, files={"file": (name, body)})

    async def put(self, grant: PutGrant, size: int, body: Callable[[], Iterable[bytes]]) -> None:
        """Put the grant's object with If-None-Match. Raises an UploadError."""
        headers = {"If-None-Match": "*"} | grant.headers | {"Content-Length": str(size)}
        await self._send("PUT", grant.url, headers=headers, content=_stream(iter(body())), fine=frozenset({412}))

    async def _send(self, method: str, url: str, *, fine: frozenset[int] = frozenset(), **content: object) -> None:
        sent_at = self._clock()
        try:
            response = await self._client().request(method, url, timeout=TIMEOUT, **content)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            # The text of httpx's errors may name the URL, which is the grant.
            raise UploadFailed(type(error).__name__) from None
        if response.is_success:
            self._stored(sent_at)
            return
        if response.status_code in fine:
            # It was there before: no sign of life that the control plane could see now.
            return
        raise refused(response)


def refused(response: httpx.Response) -> UploadError:
    """What an answer that is no success means; S3 says by its code, not by its status, what a 400 is."""
    status, code = response.status_code, code_of(response)
    text = f"the store answered {status}{f' {code}' if code else ''}"
    if status == 403 or code in _EXPIRED:
        return GrantRefused(text)
    if status < 400 or status >= 500 or status in _MAY_PASS or code in _PASSING:
        return UploadFailed(text)
    return UploadRefused(text)


def code_of(response: httpx.Response) -> str:
    """The code in S3's error document, or nothing."""
    found = _CODE.search(response.content[:LONGEST_ERROR])
    return found[1].decode() if found else ""


async def _stream(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
