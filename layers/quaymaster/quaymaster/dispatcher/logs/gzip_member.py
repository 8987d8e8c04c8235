"""One gzip stream, copied as it is and unpacked on the way, to see that it is sound and how much it holds."""

import zlib
from typing import IO

PIECE = 1 << 16
UNPACKED_PIECE = 1 << 20


class GzipMember:
    """A stream that may unpack to `room` bytes at most; `size` and `lines` are of what was unpacked.

    Memory stays bounded whatever the stream expands to.
    """

    def __init__(self, room: int) -> None:
        self.size = 0
        self.lines = 0
        self._room = room
        self._stream = zlib.decompressobj(wbits=31)

    def copy(self, source: IO[bytes], target: IO[bytes]) -> bool:
        """Whether the source was one whole gzip stream within the room; if not, the target holds a part of it."""
        try:
            while piece := source.read(PIECE):
                target.write(piece)
                if not self._unpack(piece):
                    return False
        except zlib.error:
            return False
        return self._stream.eof and not self._stream.unused_data

    def _unpack(self, piece: bytes) -> bool:
        while self.size <= self._room:
            found = self._stream.decompress(piece, UNPACKED_PIECE)
            self.size += len(found)
            self.lines += found.count(b"\n")
            piece = self._stream.unconsumed_tail
            if not piece and len(found) < UNPACKED_PIECE:
                return not self._stream.unused_data and self.size <= self._room
        return False
