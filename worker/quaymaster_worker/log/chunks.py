"""When a chunk of log is cut, and how it is compressed.

The log is compressed once. Each chunk's deflate data ends on a byte border with the dictionary forgotten
(`Z_FULL_FLUSH`), so a chunk is that data between a gzip header and trailer, and the whole log is all the data in order
between one header and one trailer: a single gzip member, as strict readers want it.
"""

import struct
import zlib
from dataclasses import dataclass

GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_END_OF_DEFLATE = b"\x03\x00"

SMALLEST_CHUNK = 256 * 1024
LARGEST_CHUNK = 8 * 1024 * 1024
LONGEST_WAIT = 30.0
WATCHED_WAIT = 1.0
BEGINNING = 5.0
FIRST_WAIT = 0.1
CROWDED = 5.0
"""A chunk that fills in less than these seconds makes the next one twice as large."""


@dataclass(frozen=True)
class Sum:
    """What a gzip trailer says of the bytes before compression."""

    crc: int = 0
    size: int = 0

    def add(self, data: bytes) -> "Sum":
        """The same, with more bytes."""
        return Sum(zlib.crc32(data, self.crc), self.size + len(data))

    def trailer(self) -> bytes:
        """End of the deflate data, and the trailer."""
        return _END_OF_DEFLATE + struct.pack("<II", self.crc, self.size & 0xFFFFFFFF)


@dataclass(frozen=True)
class Segment:
    """One chunk's deflate data and its sum."""

    data: bytes
    sum: Sum


class Compressor:
    """Bytes in, segments out."""

    def __init__(self, level: int = 6) -> None:
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._parts: list[bytes] = []
        self._sum = Sum()

    def add(self, data: bytes) -> None:
        """Compress more bytes into the current segment."""
        self._sum = self._sum.add(data)
        if part := self._deflate.compress(data):
            self._parts.append(part)

    @property
    def size(self) -> int:
        """Bytes in the current segment, before compression."""
        return self._sum.size

    def cut(self) -> Segment:
        """End the current segment and begin the next."""
        self._parts.append(self._deflate.flush(zlib.Z_FULL_FLUSH))
        segment = Segment(b"".join(self._parts), self._sum)
        self._parts, self._sum = [], Sum()
        return segment


class ChunkPolicy:
    """When to cut: at once in the first seconds, then ever more rarely, and by size; every second while watched."""

    def __init__(self, now: float, largest: int = LARGEST_CHUNK) -> None:
        self._began = now
        self._largest = largest
        self._limit = min(SMALLEST_CHUNK, largest)
        self._last_cut = now
        self._first = True
        self._watched_until = now

    def watch(self, until: float) -> None:
        """Someone reads along until then."""
        self._watched_until = max(self._watched_until, until)

    @property
    def limit(self) -> int:
        """Bytes before compression at which a chunk is cut whatever the time."""
        return self._limit

    def due_at(self, now: float) -> float:
        """When what lies there is to be cut."""
        return self._last_cut + self._wait(now)

    def was_cut(self, now: float, size: int) -> None:
        """A chunk was cut; the limit follows the rate."""
        quick = now - self._last_cut < CROWDED
        if size >= self._limit and quick:
            self._limit = min(self._limit * 2, self._largest)
        elif size < self._limit // 4:
            self._limit = max(self._limit // 2, min(SMALLEST_CHUNK, self._largest))
        self._last_cut, self._first = now, False

    def _wait(self, now: float) -> float:
        age = now - self._began
        if self._first:
            return FIRST_WAIT
        usual = WATCHED_WAIT if age < BEGINNING else min(LONGEST_WAIT, age / 2)
        return min(usual, WATCHED_WAIT) if now < self._watched_until else usual
