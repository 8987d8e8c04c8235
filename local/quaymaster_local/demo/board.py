"""What is known of the demo at this moment. Runs, workers and pools on it were read through the API."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from quaymaster.domain.api import PoolSummary, RunSummary, RunView, WorkerView
from quaymaster.domain.ids import worker_name
from quaymaster.domain.states import FINAL

from quaymaster_local.demo.scenes import Scene

KEPT = 200
"""Lines of each kind; no screen shows more."""
HOST = "HOST"
"""The metadata by which an agent of the demo says which one it is."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Something that happened, or (`run` is set) a line of a run's log; `agent` says that the worker wrote it."""

    at: float
    text: str
    run: str | None = None
    agent: bool = False


@dataclass(kw_only=True)
class Row:
    """One run: what was asked for, what the API last said, and its log so far."""

    scene: Scene
    run_id: str
    pool_id: str
    seen: RunSummary | None = None
    why: str = ""
    log: list[str] = field(default_factory=list[str])
    view: RunView | None = None
    """The run in full, read once it had ended and its log was whole."""

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.seen is not None and self.seen.state in FINAL


class Board:
    """Everything that a screen shows. `tell` hears of each line at once."""

    def __init__(self, tell: Callable[[Line], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._began = clock()
        self.rows: list[Row] = []
        self.pools: Sequence[PoolSummary] = ()
        self.workers: Mapping[str, WorkerView] = {}
        self.events: deque[Line] = deque(maxlen=KEPT)
        self.logs: deque[Line] = deque(maxlen=KEPT)
        self.sweeps = 0

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return self._clock() - self._began

    def happened(self, text: str) -> None:
        """Something happened."""
        line = Line(at=self.seconds, text=text)
        self.events.append(line)
        self._tell(line)

    def logged(self, row: Row, text: str, *, agent: bool) -> None:
        """A line of a run's log arrived."""
        row.log.append(text)
        line = Line(at=self.seconds, text=text, run=row.scene.name, agent=agent)
        self.logs.append(line)
        self._tell(line)

    def saw(self, row: Row, seen: RunSummary) -> None:
        """The API told of a run."""
        before, row.seen = row.seen, seen
        if before and before.state == seen.state and before.attempt == seen.attempt:
            return
        row.why = ""
        where = f" on {self.name(seen.worker)}" if seen.worker else ""
        reason = f" ({seen.reason})" if seen.reason else ""
        self.happened(f"{row.scene.name} is {seen.state}{reason}{where}")

    def name(self, worker: str) -> str:
        """A worker's name for people: what its agent calls itself, or its task."""
        known = self.workers.get(worker)
        host = known.metadata.get(HOST) if known else None
        return host or f"task {worker_name(worker)[:6]}"
