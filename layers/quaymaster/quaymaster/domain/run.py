"""A run, and every change it may go through, as pure functions from a run to a run.

Each change checks the table in `states`, raises `version` by one and appends to the history. `attempt` rises in
`claimed` and nowhere else: it is the fencing token on every message, object key and write.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from quaymaster.domain import keys
from quaymaster.domain.keys import Key
from quaymaster.domain.messages import ImageUsed, LogDigest, Outcome, Packed, Usage
from quaymaster.domain.phases import Leg, Phase, leg_of
from quaymaster.domain.push import Push
from quaymaster.domain.replacing import replace
from quaymaster.domain.requests import RunType, Tool, Workspace
from quaymaster.domain.states import FINAL, HELD, Reason, RunState, allowed

HISTORY_LIMIT = 12
_MILLISECOND = timedelta(milliseconds=1)
NOTE_LIMIT = 80


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The end that has been decided for a run whose process may still act."""

    state: RunState
    reason: Reason
    by: str
    deadline: datetime
    kill_at: datetime | None = None
    """Until then its command is asked to end by itself; None: it is killed at once."""
    note: str = ""

    def still_asks(self, now: datetime) -> bool:
        """Whether its command still has time to end by itself."""
        return self.kill_at is not None and now < self.kill_at


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a run executes: written once, read at each claim."""

    run_id: str
    request_id: str
    requester: str = ""
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict[str, str])
    phases: tuple[Phase, ...] = ()
    """What it runs in place of the one command."""
    on_end: tuple[tuple[str, ...], ...] = ()
    auto_confirm: bool = False
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    """What those who confirmed it have said, for the phases that follow."""
    image: str | None = None
    tool: Tool = Tool.OTHER
    workspace: Workspace | None = None
    log_timeout: timedelta | None = None
    run_timeout: timedelta | None = None
    reply_to: str | None = None
    """Where the requester hears how the run ended."""
    expires_at: datetime | None = None
    version: int = 1

    kind: ClassVar[str] = "spec"

    @property
    def key(self) -> Key:
        return keys.spec(self.run_id)

    def leg(self, run: "Run") -> Leg:
        """What the next attempt of its run executes."""
        if not self.phases:
            return Leg(retryable=run.retryable)
        return leg_of(self.phases, run.leg, auto_confirm=self.auto_confirm)


@dataclass(frozen=True, kw_only=True)
class LeftWorkspace:
    """A packed workspace in the bucket, and the attempt that has left it there."""

    attempt: int
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """State of a run; its item stays under 1 KB, so that each write of it costs one unit.

    Only where it has many phases, and all else of it is long, it may take two.
    """

    id: str
    pool_id: str
    type: RunType
    stack: str | None = None
    state: RunState
    version: int = 1
    attempt: int = 0
    accepted_at: datetime
    retryable: bool = False
    owes_reply: bool = False
    """Its requester is to be told how it ends, and has not been."""
    bound: bool = False
    """Only a task that is started for it may take it: it named an image that is not its pool's."""

    phase: int = 0
    """The number of the phase that runs, or is to run next."""
    leg: int = 0
    """The first phase of the leg at hand: another attempt begins with it."""
    leg_end: int = 1
    phases: int = 1
    phases_done: tuple[str, ...] = ()
    """Of each phase that has finished, its attempt, its begin since the acceptance, and its length (`phase_times`)."""
    left: LeftWorkspace | None = None
    """What the finished legs have left for the next one."""
    confirm_by: datetime | None = None
    confirmed_at: datetime | None = None

    worker: str | None = None
    session: str | None = None
    claimed_at: datetime | None = None
    answered_at: datetime | None = None
    resent_at: datetime | None = None
    begun_at: datetime | None = None
    image: ImageUsed | None = None
    """What the containers of its newest attempt are made of, where it runs in containers."""
    log_timeout: timedelta | None = None
    run_timeout: timedelta | None = None
    ending: Ending | None = None

    output_at: datetime | None = None
    upload_failing: bool = False
    chunk: str | None = None
    chunk_at: datetime | None = None

    losses: int = 0
    offers: int = 0
    worker_seconds: int = 0
    start_seconds: int = 0
    """What its tasks took to start, of those that came up for it."""
    spot: bool = False
    """The worker in hand is on Spot."""
    spot_seconds: int = 0
    """So many of both were on Spot."""
    ended_at: datetime | None = None
    reason: Reason | None = None
    exit_code: int | None = None
    note: str | None = None
    log: LogDigest | None = None
    usage: Usage | None = None

    due_at: datetime | None = None
    push: Push | None = None
    expires_at: datetime | None = None
    history: tuple[str, ...] = ()

    kind: ClassVar[str] = "run"

    @property
    def key(self) -> Key:
        return keys.run(self.id)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def waits_since(self) -> datetime:
        """Since when it has waited for a worker, if it waits: its place in the queue is older."""
        return self.confirmed_at or self.accepted_at

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing of it runs and nothing will, unless somebody wants it to."""
        return self.is_final or self.state is RunState.UNCONFIRMED

    @property
    def needs_confirmation(self) -> bool:
        """Whether others must confirm what follows the leg at hand."""
        return self.leg_end < self.phases

    @property
    def began_before(self) -> bool:
        """Whether an earlier attempt may have begun and left a log that nobody closed."""
        return self.losses > 0 and (self.retryable or self.phases > 1)

    def held_by(self, worker: str, session: str, attempt: int) -> bool:
        """Whether this worker, session and attempt hold the run: the fence on every message of an agent."""
        return self.state in HELD and (self.worker, self.session, self.attempt) == (worker, session, attempt)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One entry of a run's history."""

    state: RunState
    version: int
    at: datetime
    by: str
    note: str


def read_history(run: Run) -> list[Change]:
    """A run's history, oldest first."""
    changes: list[Change] = []
    for entry in run.history:
        state, version, at, by, note = entry.split("|", 4)
        moment = datetime.fromtimestamp(int(at) / 1000, tz=run.accepted_at.tzinfo)
        changes.append(Change(state=RunState(state), version=int(version), at=moment, by=by, note=note))
    return changes


def moved(
    run: Run, state: RunState, at: datetime, by: str, why: Reason | None = None, said: str = "", /, **changes: Any
) -> Run:
    """The run in another state, with an entry in its history, and what else changes with it."""
    if not allowed(run.state, state, why):
        raise ValueError(f"run {run.id}: {run.state} to {state} with reason {why} is not in the table")
    return _entered(run, state, at, by, said or why or "", **changes)


def noted(run: Run, at: datetime, by: str, said: str, **changes: Any) -> Run:
    """The run where it stands, with an entry in its history of what somebody did to it."""
    return _entered(run, run.state, at, by, said, **changes)


def _entered(run: Run, state: RunState, at: datetime, by: str, said: str, **changes: Any) -> Run:
    version = run.version + 1
    entry = f"{state}|{version}|{keys.milliseconds(at)}|{by}|{said[:NOTE_LIMIT]}"
    history = run.history
    if len(history) >= HISTORY_LIMIT:
        # The first entry says how the run came in; the latest say how it is going.
        history = (history[0], *history[-(HISTORY_LIMIT - 2) :])
    return replace(run, state=state, version=version, history=(*history, entry), **changes)


def accepted(run: Run, at: datetime, by: str, note: str = "") -> Run:
    """A new run's first history entry; it is READY, and may be claimed before it is ever written."""
    return replace(run, history=(f"{run.state}|{run.version}|{keys.milliseconds(at)}|{by}|{note[:NOTE_LIMIT]}",))


def claimed(
    run: Run,
    worker: str,
    session: str,
    at: datetime,
    timeouts: "Timeouts",
    due_at: datetime,
    *,
    leg: Leg | None = None,
    spot: bool = False,
) -> Run:
    """Assigned to a worker, which may be on Spot: PREPARING, next attempt, the leg that it runs, effective timeouts."""
    leg = leg or Leg(retryable=run.retryable)
    return moved(
        run,
        RunState.PREPARING,
        at,
        "dispatcher",
        attempt=run.attempt + 1,
        retryable=leg.retryable,
        phase=leg.first,
        leg_end=leg.end,
        phases=leg.of,
        worker=worker,
        session=session,
        spot=spot,
        claimed_at=at,
        answered_at=None,
        resent_at=None,
        begun_at=None,
        image=None,
        log_timeout=timeouts.log,
        run_timeout=timeouts.run,
        ending=None,
        output_at=None,
        upload_failing=False,
        chunk=None,
        chunk_at=None,
        # A run that is due as it waits has the log of a lost attempt to be put together: the next sweep still sees it.
        due_at=min(run.due_at or due_at, due_at),
    )


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """The timeouts in force for one attempt; both count from `go`."""

    log: timedelta
    run: timedelta


def begun(run: Run, at: datetime, image: ImageUsed | None = None) -> Run:
    """`go`: from this write on the run is never started again by itself, unless it is retryable."""
    return moved(run, RunState.RUNNING, at, "worker", begun_at=at, image=image)


def unconfirmed(run: Run, left: Packed, log: LogDigest | None, at: datetime, by: str, confirm_by: datetime) -> Run:
    """All phases of the leg have finished, and others must confirm the next one: no worker holds it."""
    run = with_phase_done(run, at)
    return moved(
        run,
        RunState.UNCONFIRMED,
        at,
        by,
        **_held(run, at),
        leg=run.leg_end,
        phase=run.leg_end,
        left=LeftWorkspace(attempt=run.attempt, sha256=left.sha256, bytes=left.bytes),
        confirm_by=confirm_by,
        worker=None,
        session=None,
        claimed_at=None,
        begun_at=None,
        log_timeout=None,
        run_timeout=None,
        log=log,
        due_at=confirm_by,
    )


def touched(run: Run, **changes: object) -> Run:
    """A change beside the state (a deadline, a resend, what a sweep saw): raises the version only."""
    return replace(run, version=run.version + 1, **changes)  # pyright: ignore[reportArgumentType]


def released(run: Run, at: datetime, by: str, note: str, *, losses: int = 0, offers: int = 0) -> Run:
    """Back to READY: not answered, handed back, or lost before it had begun (or `retryable`)."""
    return moved(
        run,
        RunState.READY,
        at,
        by,
        None,
        note,
        **_held(run, at),
        worker=None,
        session=None,
        claimed_at=None,
        begun_at=None,
        ending=None,
        due_at=None,
        phase=run.leg,
        phases_done=run.phases_done[: run.leg],
        losses=run.losses + losses,
        offers=run.offers + offers,
    )


def held_seconds(run: Run, at: datetime) -> int:
    """For how long workers have been busy with the run until then, all its attempts together, in whole seconds."""
    return run.worker_seconds + _now_held(run, at)


def spot_seconds(run: Run, at: datetime) -> int:
    """How much of that, and of what its tasks took to start, was on Spot."""
    return run.spot_seconds + (_now_held(run, at) if run.spot else 0)


def started_for(run: Run, seconds: float, *, spot: bool) -> Run:
    """A run that is taken by a task as it comes up: what the start took is the run's as well."""
    taken = max(0, round(seconds))
    return replace(run, start_seconds=run.start_seconds + taken, spot_seconds=run.spot_seconds + taken * spot)


def _now_held(run: Run, at: datetime) -> int:
    now = (at - run.claimed_at).total_seconds() if run.claimed_at and run.state in HELD else 0.0
    return max(0, round(now))


def _held(run: Run, at: datetime) -> dict[str, int]:
    return {"worker_seconds": held_seconds(run, at), "spot_seconds": spot_seconds(run, at)}


def finished(run: Run, outcome: Outcome, log: LogDigest | None, at: datetime, by: str) -> Run:
    """Ended with the outcome that its worker, or its end marker, told."""
    state = RunState(outcome.end)
    reason = outcome.reason
    if run.ending and state is RunState.FAILED and reason in (Reason.EXIT_CODE, Reason.KILLED, Reason.INTERRUPTED):
        # The worker only saw its command die; the decision that killed it says why.
        state, reason = run.ending.state, run.ending.reason
    if not allowed(run.state, state, reason):
        # A worker may say anything; what does not fit the table is still an end, and a failed one.
        state, reason = RunState.FAILED, Reason.EXIT_CODE if run.begun_at else Reason.START_FAILED
    if state is RunState.FINISHED and run.phases > 1:
        run = with_phase_done(run, at)
    run = replace(run, usage=outcome.usage)
    return ended(run, state, reason, at, by, note=outcome.note or "", exit_code=outcome.exit_code, log=log)


def explained(run: Run) -> Run:
    """A run that ended as interrupted, now that ECS has said what for: the Spot capacity of its task was taken back."""
    head, _, note = run.history[-1].rpartition("|")
    said = Reason.SPOT_INTERRUPTED if note == Reason.INTERRUPTED else note
    history = (*run.history[:-1], f"{head}|{said}")
    return replace(run, version=run.version + 1, reason=Reason.SPOT_INTERRUPTED, history=history)


def failed(run: Run, reason: Reason, at: datetime, by: str, note: str = "") -> Run:
    """Ended by the control plane."""
    return ended(run, RunState.FAILED, reason, at, by, note=note)


def ended_as_decided(run: Run, at: datetime, by: str, note: str) -> Run:
    """Ended as its `ending` says, now that its process can act no more."""
    if not run.ending:
        raise ValueError(f"run {run.id}: no end has been decided")
    return ended(run, run.ending.state, run.ending.reason, at, by, note=note)


def ended(
    run: Run,
    state: RunState,
    reason: Reason | None,
    at: datetime,
    by: str,
    *,
    note: str = "",
    exit_code: int | None = None,
    log: LogDigest | None = None,
) -> Run:
    """In a final state."""
    return moved(
        run,
        state,
        at,
        by,
        reason,
        note,
        reason=reason,
        exit_code=exit_code,
        note=note[:200] or None,
        log=log,
        ending=None,
        confirm_by=None,
        **_held(run, at),
        ended_at=at,
        due_at=at if run.owes_reply else None,
    )


@dataclass(frozen=True, kw_only=True)
class PhaseTimes:
    """When a finished phase ran, and in which attempt."""

    attempt: int
    begun_at: datetime
    ended_at: datetime


def with_phase_done(run: Run, at: datetime) -> Run:
    """The run as its phase has finished, with the time that it took."""
    begun_at = run.begun_at or at
    since, took = (round(span / _MILLISECOND) for span in (begun_at - run.accepted_at, at - begun_at))
    return replace(run, phases_done=(*run.phases_done[: run.phase], f"{run.attempt},{since},{took}"))


def phase_times(run: Run) -> list[PhaseTimes]:
    """The times of the phases that have finished, in their order."""
    found: list[PhaseTimes] = []
    for entry in run.phases_done:
        attempt, since, took = map(int, entry.split(","))
        begun_at = run.accepted_at + since * _MILLISECOND
        found.append(PhaseTimes(attempt=attempt, begun_at=begun_at, ended_at=begun_at + took * _MILLISECOND))
    return found


def next_phase(run: Run, at: datetime, timeouts: Timeouts, *, retryable: bool) -> Run:
    """The phase has finished and the next one of its leg begins: the table says so before it does."""
    done = with_phase_done(run, at)
    return touched(
        done,
        phase=run.phase + 1,
        retryable=run.retryable and retryable,
        begun_at=at,
        log_timeout=timeouts.log,
        run_timeout=timeouts.run,
    )
