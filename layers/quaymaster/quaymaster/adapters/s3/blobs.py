"""The bucket behind `ports.Blobs`."""

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Protocol

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from urllib3.exceptions import HTTPError

from quaymaster.adapters.aws.errors import MISSING, code_of, status_of, translated
from quaymaster.adapters.s3.presign import Presigner
from quaymaster.domain import objects
from quaymaster.domain.messages import Grants, LogDigest, LogEnd, PostGrant, PutGrant, WorkspaceGrant
from quaymaster.domain.pool import PoolSettings
from quaymaster.errors import Unavailable
from quaymaster.ports import Chunk

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_CHUNK_BYTES = 16 << 20
"""What one chunk may weigh: twice what an agent ever packs into one."""

MAX_MARKER_BYTES = 64 << 10
_ONCE = {"If-None-Match": "*"}
_FORBIDDEN = 403
_ALREADY_THERE = 412


class S3Blobs:
    """Fulfils `ports.Blobs`. What presigns calls nothing and needs no client."""

    def __init__(
        self,
        bucket: str,
        client: Callable[[], "S3Client"],
        presigner: Presigner,
        credentials_left: Callable[[], timedelta | None] = lambda: None,
    ) -> None:
        self._bucket = bucket
        self._client = client
        self._presigner = presigner
        self._credentials_left = credentials_left

    @property
    def url(self) -> str:
        """Where the bucket answers."""
        return self._presigner.post_url

    def grants(self, pool_id: str, run_id: str, attempt: int, settings: PoolSettings, *, pack: bool = False) -> Grants:
        life = self._life(settings.grant_life)
        prefix = objects.chunk_prefix(pool_id, run_id, attempt)
        return Grants(
            chunks=PostGrant(
                url=self._presigner.post_url,
                fields=self._presigner.post(prefix, MAX_CHUNK_BYTES, life),
                key_prefix=prefix,
                max_bytes=MAX_CHUNK_BYTES,
            ),
            log=self._write_once(objects.log_key(pool_id, run_id, attempt), life),
            log_end=self._write_once(objects.log_end_key(pool_id, run_id, attempt), life),
            outputs=self._write_once(objects.outputs_key(pool_id, run_id, attempt), life),
            workspace=self._write_once(objects.left_workspace_key(pool_id, run_id, attempt), life) if pack else None,
            expires_in_seconds=life.total_seconds(),
        )

    def workspace(self, key: str, sha256: str | None, life: timedelta) -> WorkspaceGrant:
        return WorkspaceGrant(url=self.download_url(key, life), sha256=sha256)

    def upload_url(self, key: str, life: timedelta) -> str:
        return self._presigner.url("PUT", key, self._life(life))

    def download_url(self, key: str, life: timedelta) -> str:
        return self._presigner.url("GET", key, self._life(life))

    def newest_chunk(self, pool_id: str, run_id: str, attempt: int, after: str | None) -> Chunk | None:
        newest = None
        for chunk in self._listed(objects.chunk_prefix(pool_id, run_id, attempt), after):
            newest = chunk
        return newest

    def chunks(self, pool_id: str, run_id: str, attempt: int, after: str | None = None) -> list[Chunk]:
        return list(self._listed(objects.chunk_prefix(pool_id, run_id, attempt), after))

    def log_end(self, pool_id: str, run_id: str, attempt: int) -> LogEnd | None:
        """A marker that cannot be read, or that names another attempt, proves nothing: it counts as absent."""
        found = self.read(objects.log_end_key(pool_id, run_id, attempt))
        if not found:
            return None
        with found:
            return read_log_end(found.read(MAX_MARKER_BYTES), run_id, attempt)

    def read(self, key: str) -> IO[bytes] | None:
        with translated("s3"):
            try:
                body = self._client().get_object(Bucket=self._bucket, Key=key)["Body"]
            except ClientError as error:
                if code_of(error) in MISSING or (status_of(error) == _FORBIDDEN and not self._is_there(key)):
                    return None
                raise
        return io.BufferedReader(_Stream(body), buffer_size=1 << 16)

    def _is_there(self, key: str) -> bool:
        """Whether a list, which the roles allow below its prefixes, names the object: a GET says 403 of both kinds."""
        found = self._client().list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        return any(one.get("Key") == key for one in found)

    def is_there(self, key: str) -> bool:
        with translated("s3"):
            return self._is_there(key)

    def write_input(self, key: str, body: bytes) -> None:
        self._put_once(key, io.BytesIO(body), "application/json")

    def write_log(self, pool_id: str, run_id: str, attempt: int, body: IO[bytes], end: LogEnd) -> bool:
        if not self._put_once(objects.log_key(pool_id, run_id, attempt), body, "application/gzip"):
            # The log there is another's: whoever reads the marker must not check it against ours.
            end = end.model_copy(update={"digest": LogDigest(complete=False)})
        marker = end.model_dump_json(by_alias=True, exclude_none=True).encode()
        return self._put_once(objects.log_end_key(pool_id, run_id, attempt), io.BytesIO(marker), "application/json")

    def _life(self, asked: timedelta) -> timedelta:
        left = self._credentials_left()
        return asked if left is None else max(timedelta(seconds=1), min(asked, left))

    def _write_once(self, key: str, life: timedelta) -> PutGrant:
        return PutGrant(url=self._presigner.url("PUT", key, life, _ONCE), headers=_ONCE)

    def _listed(self, prefix: str, after: str | None) -> Iterator[Chunk]:
        with translated("s3"):
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix, StartAfter=after or prefix):
                for found in page.get("Contents", []):
                    if "Key" in found and "LastModified" in found:
                        yield Chunk(key=found["Key"], at=found["LastModified"], size=found.get("Size", 0))

    def _put_once(self, key: str, body: IO[bytes], content_type: str) -> bool:
        with translated("s3"):
            try:
                self._client().put_object(
                    Bucket=self._bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*"
                )
            except ClientError as error:
                if status_of(error) == _ALREADY_THERE:
                    return False
                raise
        return True


def read_log_end(payload: bytes, run_id: str, attempt: int) -> LogEnd | None:
    """The end marker of this attempt in these bytes, if they are one."""
    try:
        end = LogEnd.model_validate_json(payload)
    except ValidationError:
        return None
    return end if (end.run, end.attempt) == (run_id, attempt) else None


class _Body(Protocol):
    def read(self, amt: int | None = None, /) -> bytes: ...
    def close(self) -> None: ...


class _Stream(io.RawIOBase):
    """An object's bytes as a file; a connection that breaks in the middle is Unavailable as well."""

    def __init__(self, body: _Body) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            found = self._body.read(len(buffer))
        except (BotoCoreError, HTTPError, OSError) as error:
            raise Unavailable("s3", f"GetObject: {type(error).__name__} while reading") from error
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()
