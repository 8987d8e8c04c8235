"""Presigned requests to the object store."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Protocol

import httpx
from longshore.domain.messages import PostGrant, PutGrant

from longshore_worker.errors import GrantRefused, UploadFailed, UploadRefused

TIMEOUT = httpx.Timeout(60, connect=10)
_MAY_PASS = frozenset({408, 409, 425, 429})


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
        status = response.status_code
        if status == 403:
            raise GrantRefused("the store answered 403")
        if 400 <= status < 500 and status not in _MAY_PASS:
            raise UploadRefused(f"the store answered {status}")
        raise UploadFailed(f"the store answered {status}")


async def _stream(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
