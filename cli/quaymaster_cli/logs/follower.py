"""A run's log as a sequence of lines, from what lies in the bucket now or as it grows."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from quaymaster.domain.api import LogPiece, LogView
from quaymaster.domain.states import RunState

from quaymaster_cli.deployment.client import ApiClient
from quaymaster_cli.errors import Disconnected, LogLost
from quaymaster_cli.logs.persisting import Persistence
from quaymaster_cli.logs.reader import LogLine, read_piece

FIRST_POLL_SECONDS = 0.25
POLL_SECONDS = 1.0
"""How often the log is looked at when nothing new comes: soon at first, then at this pace."""
WATCH_SECONDS = 20.0
"""How often the worker is asked to ship its log every second; each asking holds for longer than this."""
BEFORE_OUTPUT = frozenset({RunState.QUEUED, RunState.READY, RunState.PREPARING})
"""States in which a run waits, and in which it can have no output of the attempt that it waits for."""


@dataclass
class LogFollower:
    """Reads one run's log; `note` is told what readers should know beside the lines themselves."""

    api: ApiClient
    run: str
    note: Callable[[str], None]
    persist: Persistence
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    attempt: int | None = None
    """The attempt whose log is read by `now`; None: the latest."""
    state: RunState | None = None
    """The run's, as it was seen last."""
    _attempt: int = 0
    _printed: int = 0
    _gap: bool = False
    _next: dict[str, int] = field(default_factory=dict[str, int])
    _watched_at: float | None = None

    def now(self) -> Iterator[LogLine]:
        """What there is of the log at this moment."""
        cursor = None
        while True:
            view = self.api.log(self.run, cursor, attempt=self.attempt)
            self.state = view.state
            yield from self._lines(view)
            if view.ended or not view.chunks:
                self._tell_end(view)
                return
            cursor = view.cursor

    def follow(self, waiting: Callable[[LogView], None] = lambda view: None) -> Iterator[LogLine]:
        """The log until it ends; `waiting` is called with each view on the way."""
        cursor, pause = None, FIRST_POLL_SECONDS
        while True:
            watch = self._watch()
            view = self.persist(partial(self.api.log, self.run, cursor, watch=watch))
            self.state = view.state
            # Told before the output that shows it.
            waiting(view)
            yield from self._lines(view)
            cursor = view.cursor
            if view.ended:
                self._tell_end(view)
                return
            if view.chunks:
                pause = FIRST_POLL_SECONDS
                continue
            self.sleep(pause)
            pause = min(POLL_SECONDS, pause * 1.5)

    def _watch(self) -> bool:
        now = self.clock()
        if self._watched_at is not None and now - self._watched_at < WATCH_SECONDS:
            return False
        self._watched_at = now
        return True

    def _lines(self, view: LogView) -> Iterator[LogLine]:
        if view.attempt != self._attempt:
            if self._printed:
                self.note(f"attempt {self._attempt} is over; attempt {view.attempt} begins")
            self._attempt, self._printed, self._gap = view.attempt, 0, False
            self._next.clear()
        if view.final and not self._printed:
            yield from self._read(view.final)
            return
        for chunk in view.chunks:
            self._look_for_gap(chunk)
            try:
                yield from self._read(chunk)
            except LogLost as lost:
                self.note(str(lost))
                self._gap = True
        if view.ended and view.final and self._printed < (view.lines or 0):
            yield from self._rest(view.final)

    def _read(self, piece: LogPiece, skip: int = 0) -> Iterator[LogLine]:
        """The lines of an object behind the first few; where the network fails in its middle, it is read again."""
        while True:
            seen = skip
            try:
                for line in islice(read_piece(self.api.plain, piece), seen, None):
                    self._printed += 1
                    skip += 1
                    yield line
            except Disconnected as error:
                if skip > seen:
                    self.persist.worked()
                self.persist.failed(error)
            else:
                self.persist.worked()
                return

    def _look_for_gap(self, chunk: LogPiece) -> None:
        name = chunk.key.rpartition("/")[2].partition(".")[0]
        phase, _, number = name.rpartition("-")
        if not number.isdecimal():
            return
        if phase in self._next and int(number) > self._next[phase]:
            self._gap = True
        self._next[phase] = int(number) + 1

    def _rest(self, final: LogPiece) -> Iterator[LogLine]:
        """The lines that the final log has and the chunks had not."""
        if self._gap:
            self.note(f"some lines are missing above; `quaymaster run logs {self.run}` shows the whole log")
            return
        yield from self._read(final, skip=self._printed)

    def _tell_end(self, view: LogView) -> None:
        if view.ended and view.note:
            self.note(f"the log is incomplete: {view.note}" if view.complete is False else view.note)
