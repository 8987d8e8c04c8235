"""A function's invocation that stands still where it is told to, while others go on: one thread, one turn at a time."""

import threading
from collections.abc import Callable


class Crash(BaseException):
    """The function was killed: nothing of it goes on, and nothing catches this."""


class Handler:
    """Runs `body` in turns. Exactly one of the handler and its caller runs at any time.

    `name` is the use case; `what` is what it was called with, for the history. One that may not pause needs no thread.
    """

    def __init__(self, name: str, what: str, body: Callable[[], object], *, may_pause: bool) -> None:
        self.name = name
        self.what = what
        self.done = False
        self.error: BaseException | None = None
        self.result: object = None
        self.may_pause = may_pause
        self.note: object = None
        self._body = body
        self._killed = False
        self._started = False
        if may_pause:
            self._mine = threading.Lock()
            self._theirs = threading.Lock()
            self._mine.acquire()
            self._theirs.acquire()
            self._thread = threading.Thread(target=self._run, daemon=True)

    def turn(self) -> None:
        """Let it go on until it pauses or ends."""
        if not self.may_pause:
            self._do()
            return
        if not self._started:
            self._started = True
            self._thread.start()
        self._mine.release()
        self._theirs.acquire()
        if self.done:
            self._thread.join()

    def pause(self) -> None:
        """Called by the handler itself: the caller of `turn` goes on. Raises Crash if it was killed meanwhile."""
        self._theirs.release()
        self._mine.acquire()
        if self._killed:
            raise Crash

    def kill(self) -> None:
        """The function is killed where it stands."""
        self._killed = True
        if self._started and not self.done:
            self.turn()
        self.done = True

    def _run(self) -> None:
        self._mine.acquire()
        self._do()
        self._theirs.release()

    def _do(self) -> None:
        try:
            self.result = self._body()
        except (Crash, Exception) as error:
            # Whatever it is, the caller of `turn` decides about it.
            self.error = error
        self.done = True
