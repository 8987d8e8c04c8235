"""Steps of bringing the local cloud up, told as they end, with what each took."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

type Tell = Callable[[str], None]


def tell_on_stderr(line: str) -> None:
    """One line for a person; standard output stays free for `--json`."""
    print(line, file=sys.stderr, flush=True)


def tell_nobody(line: str) -> None:
    """For callers that show progress themselves, or not at all."""


class Progress:
    """Times steps and tells each as it ends. `seconds` maps a step to what it took."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Time what is done inside; a step that raises is not told."""
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 2)
        self._tell(f"  {name:<24} {self.seconds[name]:5.1f} s")
