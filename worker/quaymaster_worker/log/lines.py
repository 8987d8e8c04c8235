"""From the bytes of a phase to lines of text, and from those to NDJSON.

A line keeps its line end here. What has none is a piece: the line goes on in the next, or the output ends there.
"""

import codecs
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, Protocol

LONGEST_LINE = 16_384
"""Characters; a longer line is split, so that memory and chunks stay bounded."""

Stream = Literal["output", "agent"]

type Echo = Callable[[datetime, str, Stream, str], None]
"""Is told each line as well, masked: its moment, phase, stream and text, with its line end if it has one."""


class Mask(Protocol):
    """Takes a phase's bytes as they come and gives them back without what must not be seen.

    It may hold back a tail that could be the beginning of a secret; `flush` gives that up.
    """

    def feed(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...

    def hide(self, text: str) -> str:
        """A text of the agent's own without what must not be seen."""
        ...


class NoMask:
    """Nothing is masked."""

    def feed(self, data: bytes) -> bytes:
        """The same bytes."""
        return data

    def flush(self) -> bytes:
        """Nothing was held back."""
        return b""

    def hide(self, text: str) -> str:
        """The same text."""
        return text


class LineSplitter:
    """Cuts text behind its line ends; keeps the unterminated rest, and gives it up when asked.

    All that is given back, joined, is the text: no line end is added, changed or lost.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """The lines that these bytes complete; overlong ones in pieces."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        whole = [piece for line in lines for piece in _split(line + "\n")]
        while len(self._rest) > LONGEST_LINE:
            whole.append(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]
        return whole

    @property
    def has_rest(self) -> bool:
        """Whether an unterminated line is waiting."""
        return bool(self._rest)

    def flush(self, *, final: bool = False) -> list[str]:
        """The unterminated line, if there is one; `final` gives up half a character, too."""
        rest, self._rest = self._rest + (self._decoder.decode(b"", True) if final else ""), ""
        return _split(rest)


def _split(line: str) -> list[str]:
    if len(line) <= LONGEST_LINE:
        return [line] if line else []
    return [line[at : at + LONGEST_LINE] for at in range(0, len(line), LONGEST_LINE)]


class LineEncoder:
    """NDJSON lines of one batch: same moment, phase and stream.

    `at` is the worker's clock: for readers only, nothing is decided by it.
    """

    def __init__(self, at: datetime, phase: str, stream: Stream) -> None:
        stamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = json.dumps({"ts": stamp, "phase": phase, "stream": stream}, separators=(",", ":"))
        self._head = head[:-1] + ',"msg":'

    def encode(self, text: str) -> bytes:
        """A line, or a piece without line end, which is marked."""
        if text.endswith("\n"):
            return f"{self._head}{_quote(text[:-1])}}}\n".encode("utf-8", "replace")
        return f'{self._head}{_quote(text)},"partial":true}}\n'.encode("utf-8", "replace")


_quote = json.JSONEncoder(ensure_ascii=False).encode
