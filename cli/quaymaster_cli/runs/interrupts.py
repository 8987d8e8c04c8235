"""Ctrl-C while a run is followed: asked once what is meant, to stop the run or only to stop following it."""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from quaymaster.domain.api import Steer

from quaymaster_cli.deployment.client import ApiClient
from quaymaster_cli.errors import ApiRefused, Interrupted, Unknown
from quaymaster_cli.showing.output import Output

STEP_SECONDS = 0.1
_CONFLICT = 409
_NOTE = "Ctrl-C of who followed it"


def asked_on_terminal(question: str) -> bool:
    """Whether the answer on the terminal is yes; nothing is an answer too."""
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@dataclass
class Interrupts:
    """As a context: Ctrl-C is looked at in `sleep` and `check`, where nothing is half done; a second leaves at once.

    `choice` is `ask`, or what would be answered: `stop` the run and see it end, or `leave` it.
    """

    api: ApiClient
    run: str
    output: Output
    choice: str
    ask: Callable[[str], bool] = asked_on_terminal
    _pressed: bool = False
    _stopping: bool = False
    _before: Any = None

    def __enter__(self) -> "Interrupts":
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self._pressed or self.choice == "leave":
            raise KeyboardInterrupt
        self._pressed = True

    def sleep(self, seconds: float) -> None:
        """Wait, and do what a Ctrl-C asks for meanwhile. Raises Interrupted."""
        until = time.monotonic() + seconds
        while True:
            self.check()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, STEP_SECONDS))

    def check(self) -> None:
        """Do what a Ctrl-C asked for. Raises Interrupted."""
        if not self._pressed:
            return
        if not self._stopping:
            if self.choice == "ask" and not self.ask("\nstop the run? (y: stop it, n: only stop following it) [y/N] "):
                raise Interrupted
            self._stopping = True
            self.output.note("stopping the run; Ctrl-C leaves it")
        if self._stop():
            # What comes from now on leaves; nothing is left to be asked.
            self._pressed, self.choice = False, "leave"

    def _stop(self) -> bool:
        """Stop it, or cancel it if it has not begun; whether that is done, or there is nothing to be done."""
        for what in ("stop", "cancel", "stop"):
            try:
                self.api.steer_run(self.run, what, Steer(note=_NOTE))
            except Unknown:
                # Its request is still on its way.
                return False
            except ApiRefused as error:
                if error.status != _CONFLICT:
                    raise
            else:
                return True
        return True
