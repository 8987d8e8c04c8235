"""Telling how far something is that takes more than a moment."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

QUIET_SECONDS = 1.0
TERMINAL_SECONDS, PIPE_SECONDS = 0.2, 10.0
"""How often it is told: on a terminal in one line that changes, elsewhere in lines of their own."""


@dataclass
class Progress:
    """Tells on stderr how much of a known amount is done, from its second second on until it is left."""

    what: str
    total_bytes: int = 0
    total_files: int = 0
    clock: Callable[[], float] = time.monotonic
    _bytes: int = 0
    _files: int = 0
    _shown: bool = False
    _next: float = field(init=False)

    def __post_init__(self) -> None:
        self._next = self.clock() + QUIET_SECONDS

    def add(self, size: int, files: int = 0) -> None:
        """So much more is done."""
        self._bytes += size
        self._files += files
        now = self.clock()
        if now < self._next:
            return
        terminal = sys.stderr.isatty()
        self._next = now + (TERMINAL_SECONDS if terminal else PIPE_SECONDS)
        bytes_told = f"{tell_size(self._bytes)} of {tell_size(self.total_bytes)}" if self.total_bytes else ""
        files_told = f"{self._files} of {self.total_files} files" if self.total_files else ""
        text = f"{self.what}: " + ", ".join(part for part in (bytes_told, files_told) if part)
        print(f"\r\x1b[K\x1b[2m{text}\x1b[0m" if terminal else text, end="" if terminal else "\n", file=sys.stderr)
        self._shown = terminal
        sys.stderr.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_error: object) -> None:
        """Take the line from the terminal."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def tell_size(size: int) -> str:
    """A number of bytes in the unit that people would choose."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
