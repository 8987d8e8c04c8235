"""One attempt's compressed log on disk: what memory does not hold while the store cannot be reached."""

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quaymaster_worker.log.chunks import GZIP_HEADER, Segment, Sum

READ_SIZE = 256 * 1024


@dataclass(frozen=True)
class Chunk:
    """One chunk's place in the spool, and its number."""

    sequence: int
    offset: int
    length: int
    sum: Sum


@dataclass(frozen=True)
class WholeLog:
    """The final log: its size and hash as an object, to be read from the spool."""

    size: int
    sha256: str


class Spool:
    """A file of segments in order. Raises OSError where the disk does."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._end = 0
        self._next = 1
        self._trailer = b""
        self.waiting: deque[Chunk] = deque()

    def append(self, segment: Segment) -> Chunk:
        """Write a segment down as the next chunk, to be sent."""
        self._file.seek(self._end)
        view = memoryview(segment.data)
        while view:
            view = view[self._file.write(view) :]
        chunk = Chunk(self._next, self._end, len(segment.data), segment.sum)
        self._next += 1
        self._end += chunk.length
        self.waiting.append(chunk)
        return chunk

    def read(self, chunk: Chunk) -> bytes:
        """The chunk as a gzip file."""
        self._file.seek(chunk.offset)
        return GZIP_HEADER + self._file.read(chunk.length) + chunk.sum.trailer()

    def close_log(self, total: Sum) -> WholeLog:
        """Size and hash of the whole log; `total` is the sum of all that was compressed."""
        self._trailer = total.trailer()
        digest, size = hashlib.sha256(), 0
        for part in self.whole_log():
            digest.update(part)
            size += len(part)
        return WholeLog(size, digest.hexdigest())

    def whole_log(self) -> Iterator[bytes]:
        """The whole log as a gzip file, in parts; after `close_log`."""
        yield GZIP_HEADER
        at = 0
        while at < self._end:
            self._file.seek(at)
            part = self._file.read(min(READ_SIZE, self._end - at))
            if not part:
                raise OSError(f"the spool ends at {at} of {self._end} bytes")
            at += len(part)
            yield part
        yield self._trailer

    def close(self) -> None:
        """Close the file; its folder goes with the attempt."""
        self._file.close()
