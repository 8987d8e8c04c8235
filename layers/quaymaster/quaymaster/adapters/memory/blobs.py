"""The bucket in memory."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO

from quaymaster.adapters.s3.blobs import MAX_CHUNK_BYTES, read_log_end
from quaymaster.domain import objects
from quaymaster.domain.messages import Grants, LogDigest, LogEnd, PostGrant, PutGrant, WorkspaceGrant
from quaymaster.domain.pool import PoolSettings
from quaymaster.errors import Unavailable
from quaymaster.ports import Chunk


@dataclass(frozen=True)
class MemoryObject:
    """An object and when it was written."""

    body: bytes
    at: datetime


class MemoryBlobs:
    """Fulfils `ports.Blobs`. While `down` is set, every call but presigning fails.

    What it presigns are `memory:` URLs that name method, key and end of life.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.objects: dict[str, MemoryObject] = {}
        self.down: str | None = None
        self._clock = clock

    @property
    def url(self) -> str:
        """It answers nobody."""
        return "memory:"

    def write(self, key: str, body: bytes, at: datetime | None = None) -> None:
        """Put an object there, as somebody else would."""
        self.objects[key] = MemoryObject(body, at or self._clock())

    def grants(self, pool_id: str, run_id: str, attempt: int, settings: PoolSettings, *, pack: bool = False) -> Grants:
        life = settings.grant_life
        prefix = objects.chunk_prefix(pool_id, run_id, attempt)
        return Grants(
            chunks=PostGrant(
                url="memory:", fields={"expires": self._end(life)}, key_prefix=prefix, max_bytes=MAX_CHUNK_BYTES
            ),
            log=PutGrant(url=self._url("PUT", objects.log_key(pool_id, run_id, attempt), life)),
            log_end=PutGrant(url=self._url("PUT", objects.log_end_key(pool_id, run_id, attempt), life)),
            outputs=PutGrant(url=self._url("PUT", objects.outputs_key(pool_id, run_id, attempt), life)),
            workspace=PutGrant(url=self._url("PUT", objects.left_workspace_key(pool_id, run_id, attempt), life))
            if pack
            else None,
            expires_in_seconds=life.total_seconds(),
        )

    def workspace(self, key: str, sha256: str | None, life: timedelta) -> WorkspaceGrant:
        return WorkspaceGrant(url=self.download_url(key, life), sha256=sha256)

    def upload_url(self, key: str, life: timedelta) -> str:
        return self._url("PUT", key, life)

    def download_url(self, key: str, life: timedelta) -> str:
        return self._url("GET", key, life)

    def newest_chunk(self, pool_id: str, run_id: str, attempt: int, after: str | None) -> Chunk | None:
        found = self.chunks(pool_id, run_id, attempt, after)
        return found[-1] if found else None

    def chunks(self, pool_id: str, run_id: str, attempt: int, after: str | None = None) -> list[Chunk]:
        self._answer()
        prefix = objects.chunk_prefix(pool_id, run_id, attempt)
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > (after or prefix))
        return [Chunk(key=key, at=self.objects[key].at, size=len(self.objects[key].body)) for key in keys]

    def log_end(self, pool_id: str, run_id: str, attempt: int) -> LogEnd | None:
        self._answer()
        found = self.objects.get(objects.log_end_key(pool_id, run_id, attempt))
        return read_log_end(found.body, run_id, attempt) if found else None

    def read(self, key: str) -> IO[bytes] | None:
        self._answer()
        found = self.objects.get(key)
        return io.BytesIO(found.body) if found else None

    def is_there(self, key: str) -> bool:
        self._answer()
        return key in self.objects

    def write_input(self, key: str, body: bytes) -> None:
        self._put_once(key, body)

    def write_log(self, pool_id: str, run_id: str, attempt: int, body: IO[bytes], end: LogEnd) -> bool:
        if not self._put_once(objects.log_key(pool_id, run_id, attempt), body.read()):
            end = end.model_copy(update={"digest": LogDigest(complete=False)})
        marker = end.model_dump_json(by_alias=True, exclude_none=True).encode()
        return self._put_once(objects.log_end_key(pool_id, run_id, attempt), marker)

    def _put_once(self, key: str, body: bytes) -> bool:
        self._answer()
        if key in self.objects:
            return False
        self.write(key, body)
        return True

    def _url(self, method: str, key: str, life: timedelta) -> str:
        return f"memory:{method}:{key}?expires={self._end(life)}"

    def _end(self, life: timedelta) -> str:
        return (self._clock() + life).isoformat()

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("s3", self.down)
