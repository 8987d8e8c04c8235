"""When something must be looked at, and when silence or length is too much. All spans come from the pool's settings."""

from dataclasses import replace
from datetime import datetime, timedelta

from quaymaster.domain.pool import Launch, PoolSettings
from quaymaster.domain.push import Push
from quaymaster.domain.run import Run, Spec, Timeouts
from quaymaster.domain.states import RunState
from quaymaster.domain.worker import Worker

RETENTION = timedelta(days=60)
"""How long a final run stays in the table; its log's life is the bucket's."""
GONE_RETENTION = timedelta(days=1)
"""How long a worker that went still shows."""
TASK_RETENTION = timedelta(days=7)
"""How long what a task's agent said of itself is kept from its start: no write marks its end."""
SWEEP = timedelta(minutes=1)
LONGEST_PUSH = timedelta(minutes=30)
"""The longest that something is left alone because it could not be handled."""
LATE_UPLOAD = timedelta(minutes=3)
"""How long an agent that reported without its whole log may still be uploading it."""
LEAVE = timedelta(minutes=5)
"""How long a worker that leaves may take to say goodbye, or its task to stop (ECS kills it after two minutes)."""
LATE_TASK = timedelta(minutes=15)
"""A task that does not run by then never will: it is stopped, which frees its place. Its image may be large."""
LATE_WORKER = 2 * SWEEP
"""A task that runs for so long, and no worker has joined for, never becomes one: an agent registers within seconds."""
LOOKED_FOR = timedelta(hours=1)
"""How long a worker that stopped answering is asked at each sweep whether it is back."""


def effective(spec: Spec, settings: PoolSettings, worker: Worker, phase: int = 0) -> Timeouts:
    """The least of what the phase or the request (or the pool's default) wants, the pool allows, and the launcher."""
    asked = wanted(spec, settings, phase)
    return Timeouts(
        log=min(asked.log, worker.log_limit or asked.log), run=min(asked.run, worker.run_limit or asked.run)
    )


def wanted(spec: Spec, settings: PoolSettings, phase: int) -> Timeouts:
    """The same before a launcher is known."""
    own = spec.phases[phase] if spec.phases else spec
    return Timeouts(
        log=min(own.log_timeout or spec.log_timeout or settings.log_timeout, settings.max_log_timeout),
        run=min(own.run_timeout or spec.run_timeout or settings.run_timeout, settings.max_run_timeout),
    )


def first_look(timeouts: Timeouts, settings: PoolSettings, at: datetime) -> datetime:
    """When a freshly claimed run is first looked at.

    Late enough that a run which answers and ends within its log timeout is never looked at: each look that finds
    nothing costs three write units.
    """
    return at + min(settings.prepare_timeout, min(timeouts.log, timeouts.run) + settings.backstop_slack)


def prepare_deadline(run: Run, settings: PoolSettings) -> datetime:
    """When a preparation has taken too long."""
    return (run.claimed_at or run.accepted_at) + settings.prepare_timeout


def run_deadline(run: Run, settings: PoolSettings) -> datetime:
    """When the control plane ends a run that its worker should have ended: it has overrun."""
    return (run.begun_at or run.accepted_at) + (run.run_timeout or settings.run_timeout) + settings.backstop_slack


def silence_deadline(run: Run, settings: PoolSettings) -> datetime:
    """When the control plane ends a run that its worker should have ended: it has been silent for too long."""
    heard = [at for at in (run.begun_at, run.chunk_at, run.output_at) if at]
    return max(heard, default=run.accepted_at) + (run.log_timeout or settings.log_timeout) + settings.backstop_slack


def next_look(run: Run, settings: PoolSettings, now: datetime) -> datetime:
    """When a held run must be looked at next; one that is ending at every sweep, because a kill may be lost."""
    if run.ending:
        return min(run.ending.deadline, now + SWEEP)
    if run.state is RunState.PREPARING:
        return prepare_deadline(run, settings)
    return min(run_deadline(run, settings), silence_deadline(run, settings))


def unanswered(run: Run, settings: PoolSettings, now: datetime) -> bool:
    """Whether an offer (or its repetition) has had its time and no answer came."""
    if run.state is not RunState.PREPARING or not run.claimed_at:
        return False
    heard = max(at for at in (run.claimed_at, run.answered_at, run.resent_at) if at)
    return now >= heard + settings.accept_timeout


def worker_silent_since(run: Run, worker: Worker) -> datetime:
    """The last sign of life of a disconnected worker and the run it holds."""
    signs = (worker.disconnected_at, worker.seen_at, run.begun_at, run.chunk_at, run.output_at)
    return max(at for at in signs if at)


def log_due(run: Run, now: datetime, *, uploaded: bool) -> datetime | None:
    """When a run that its worker has ended must be looked at: for its log, if that is not whole, or for a reply."""
    if run.begun_at and run.log and not run.log.complete and not uploaded:
        return now + LATE_UPLOAD
    return now if run.began_before or (run.owes_reply and run.is_final) else None


def pushed[T: Run | Worker | Launch](record: T, now: datetime) -> T:
    """Out of the way of what else is due: for a sweep the first time, for twice as long each time that follows."""
    before = record.push.times if record.push and record.push.version == record.version else 0
    version = record.version + 1
    due_at = now + min(SWEEP * 2**before, LONGEST_PUSH)
    # Beyond six the delay grows no more.
    return replace(record, version=version, push=Push(times=min(before + 1, 6), version=version), due_at=due_at)
