"""A worker: one logical slot that processes one run at a time, and the marker that offers it."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from quaymaster.domain import keys
from quaymaster.domain.keys import Key
from quaymaster.domain.push import Push
from quaymaster.domain.replacing import replace


class WorkerState(StrEnum):
    """Where a worker stands in the table.

    IDLE: may be given a run, and has a marker. BUSY: holds a run. ASKED: did not answer, or lost its connection;
    gets nothing until it registers again. LEAVING: takes no more runs, its task is being stopped. GONE: no more; while
    it has a `due_at`, it is still asked whether it is back.
    """

    IDLE = "IDLE"
    BUSY = "BUSY"
    ASKED = "ASKED"
    LEAVING = "LEAVING"
    GONE = "GONE"


@dataclass(frozen=True, kw_only=True)
class Worker:
    """State of a worker; under 1 KB, and carried whole by its marker, so that a claim needs no read of it.

    `left`: this session said goodbye, was done, or its process is known to be no more: a late message means nothing.
    `seen_at` and `disconnected_at` are the broker's times, `asked_at` is when it was asked before it is called lost.
    """

    id: str
    pool_id: str
    state: WorkerState
    version: int = 1
    session: str
    generation: int = 1
    run: str | None = None
    attempt: int | None = None
    marker: str | None = None
    log_limit: timedelta | None = None
    run_limit: timedelta | None = None
    launch: str | None = None
    spot: bool = False
    bound: bool = False
    """Its task was started for one run alone."""
    task_arn: str | None = None
    runs_done: int = 0
    created_at: datetime
    idle_since: datetime | None = None
    busy_since: datetime | None = None
    seen_at: datetime
    disconnected_at: datetime | None = None
    asked_at: datetime | None = None
    note: str | None = None
    left: bool = False
    taken_back: bool = False
    """ECS has said that it takes the task's Spot capacity back."""
    interrupted: str | None = None
    """The run that it has told as interrupted, as it left: what for, ECS may say later."""
    due_at: datetime | None = None
    push: Push | None = None
    expires_at: datetime | None = None

    kind: ClassVar[str] = "worker"

    @property
    def key(self) -> Key:
        return keys.past_worker(self.pool_id, self.id) if self.is_over else keys.worker(self.pool_id, self.id)

    @property
    def is_over(self) -> bool:
        """Whether it is gone, and not sought any more."""
        return self.state is WorkerState.GONE and not self.due_at


@dataclass(frozen=True, kw_only=True)
class Marker:
    """Present exactly while its worker is IDLE; `random` is fresh each time, so it names one idle period."""

    random: str
    worker: Worker
    version: int = 1

    kind: ClassVar[str] = "marker"

    @property
    def key(self) -> Key:
        return keys.marker(self.worker.pool_id, self.random, self.worker.id)


@dataclass(frozen=True, kw_only=True)
class Agent:
    """What the agent said of itself when it registered."""

    pool_id: str
    worker_id: str
    agent_version: str = ""
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    version: int = 1
    expires_at: datetime | None = None

    kind: ClassVar[str] = "agent"

    @property
    def key(self) -> Key:
        return keys.agent(self.pool_id, self.worker_id)


def occupied(worker: Worker, run_id: str, attempt: int, at: datetime) -> Worker:
    """BUSY with an attempt."""
    return replace(
        worker,
        state=WorkerState.BUSY,
        version=worker.version + 1,
        run=run_id,
        attempt=attempt,
        marker=None,
        busy_since=at,
        idle_since=None,
    )


def freed(worker: Worker, random: str, at: datetime, *, done: int = 0) -> tuple[Worker, Marker]:
    """IDLE again, with the marker to be written beside it. `done` runs are added to its count."""
    idle = replace(
        worker,
        state=WorkerState.IDLE,
        version=worker.version + 1,
        run=None,
        attempt=None,
        marker=random,
        runs_done=worker.runs_done + done,
        idle_since=at,
        busy_since=None,
        seen_at=at,
        disconnected_at=None,
        asked_at=None,
        note=None,
        left=False,
        due_at=None,
    )
    return idle, Marker(random=random, worker=idle)


def _without_run(worker: Worker, state: WorkerState, note: str, due_at: datetime | None) -> Worker:
    return replace(
        worker,
        state=state,
        version=worker.version + 1,
        run=None,
        attempt=None,
        marker=None,
        idle_since=None,
        busy_since=None,
        note=note,
        due_at=due_at,
    )


def asked(worker: Worker, note: str, due_at: datetime) -> Worker:
    """Kept out until it registers again; gone if it has not by `due_at`."""
    return _without_run(worker, WorkerState.ASKED, note, due_at)


def leaving(worker: Worker, note: str, due_at: datetime, *, done: int = 0) -> Worker:
    """Takes no more runs; counts as gone at `due_at` if nothing was heard of its end by then."""
    return replace(_without_run(worker, WorkerState.LEAVING, note, due_at), runs_done=worker.runs_done + done)


def gone(worker: Worker, note: str, expires_at: datetime, *, sought_until: datetime | None = None) -> Worker:
    """No more; kept for a while so that people see why it went.

    One that is sought is asked until then whether it is back; any other has left, and its session means nothing more.
    """
    without = _without_run(worker, WorkerState.GONE, note, sought_until)
    return replace(without, expires_at=expires_at, left=sought_until is None)


def warned(worker: Worker) -> Worker:
    """A worker whose task's Spot capacity is taken back; what it was told to explain by that is explained."""
    return replace(worker, version=worker.version + 1, taken_back=True, interrupted=None)


def disconnected(worker: Worker, at: datetime, due_at: datetime) -> Worker:
    """A worker that still holds its run, but whose connection the broker lost."""
    return replace(worker, version=worker.version + 1, disconnected_at=at, asked_at=None, due_at=due_at)


def reconnected(worker: Worker, at: datetime) -> Worker:
    """Answered again, under the same session, with the run it held."""
    answered = replace(worker, disconnected_at=None, asked_at=None, due_at=None, seen_at=at, note=None)
    return replace(answered, version=worker.version + 1)


def questioned(worker: Worker, at: datetime, due_at: datetime) -> Worker:
    """Asked once more before it is called lost: without an answer by `due_at`, it is."""
    return replace(worker, version=worker.version + 1, asked_at=at, due_at=due_at)
