"""Taking a run from a worker that can no longer act, or never answered: what becomes of the run.

The one place that decides between offering a run again and ending it. Callers put the writes into the same
transaction as the worker's own.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from quaymaster.domain import deadlines
from quaymaster.domain.messages import LogDigest, LogEnd, Outcome, Packed
from quaymaster.domain.pool import PoolSettings, ticket_for
from quaymaster.domain.run import Run, ended_as_decided, failed, finished, released, unconfirmed
from quaymaster.domain.states import BY_THE_WORKER, Reason, RunState
from quaymaster.ports import Create, Ports, Replace, Write


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Why a run is taken from its worker, and what that adds to its counts of lost workers and unanswered offers."""

    reason: Reason
    by: str
    note: str
    losses: int = 1
    offers: int = 0


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A run after it was taken from its worker, and the writes that make it so."""

    run: Run
    writes: tuple[Write, ...]


def settle(ports: Ports, run: Run, settings: PoolSettings, loss: Loss, now: datetime) -> Settled:
    """What becomes of a held run whose worker is lost to it. Reads the end marker first; raises Unavailable."""
    if run.state is RunState.RUNNING:
        end = ports.blobs.log_end(run.pool_id, run.id, run.attempt)
        if end:
            outcome = on_spot(end.outcome) if loss.reason is Reason.SPOT_INTERRUPTED else end.outcome
            return end_with(run, end.model_copy(update={"outcome": outcome}), settings, now)
    return _given_up(_after_loss(run, settings, loss, now))


def on_spot(outcome: Outcome) -> Outcome:
    """The outcome of a phase whose Spot capacity was taken back: its agent only knows that it was told to end."""
    return outcome.model_copy(update={"reason": Reason.SPOT_INTERRUPTED}) if _interrupted(outcome) else outcome


def _interrupted(outcome: Outcome) -> bool:
    return outcome.end == "FAILED" and outcome.reason is Reason.INTERRUPTED


def may_repeat(run: Run, outcome: Outcome) -> bool:
    """Whether a phase was ended by nothing but its worker's going, and its run asks to be repeated for that."""
    return outcome.end == "FAILED" and outcome.reason in BY_THE_WORKER and run.retryable and not run.ending


def concluded(
    run: Run,
    outcome: Outcome,
    log: LogDigest,
    settings: PoolSettings,
    now: datetime,
    by: str,
    *,
    uploaded: bool = False,
) -> Settled:
    """What becomes of a running run whose phase has ended so, as its worker or its end marker says.

    It ends with that outcome; one that only its worker ended is READY again if it is retryable, unless that has been so
    too often. `uploaded`: its log lies whole in the bucket, whatever the digest says of what it leaves out.
    """
    if may_repeat(run, outcome) and run.losses + 1 < settings.losses:
        loss = Loss(reason=outcome.reason or Reason.WORKER_LOST, by=by, note=outcome.note or "its worker went away")
        return _given_up(_after_loss(run, settings, loss, now))
    if outcome.end == "FINISHED" and run.phase + 1 < run.phases:
        if run.needs_confirmation and run.phase + 1 == run.leg_end and outcome.workspace and not run.ending:
            return _to_be_confirmed(run, outcome.workspace, log, settings, now, by, uploaded=uploaded)
        outcome = _unfinished(run, outcome)
    after = finished(run, outcome, log, now, by)
    due_at = deadlines.log_due(after, now, uploaded=uploaded)
    after = replace(after, due_at=due_at, expires_at=now + deadlines.RETENTION)
    return Settled(run=after, writes=(Replace(after),))


def _unfinished(run: Run, outcome: Outcome) -> Outcome:
    """How a run ends whose worker has finished a phase, with others to follow that will not."""
    if run.ending:
        end = "STOPPED" if run.ending.state is RunState.STOPPED else "FAILED"
        return Outcome(end=end, reason=run.ending.reason, exit_code=outcome.exit_code, note=run.ending.note or None)
    if run.phase + 1 < run.leg_end:
        reason, note = Reason.START_FAILED, "its worker has left out a phase"
    else:
        reason, note = Reason.WORKSPACE, "its worker has left no workspace for what needs confirmation"
    return Outcome(end="FAILED", reason=reason, exit_code=outcome.exit_code, note=note)


def _to_be_confirmed(
    run: Run, left: Packed, log: LogDigest, settings: PoolSettings, now: datetime, by: str, *, uploaded: bool
) -> Settled:
    after = unconfirmed(run, left, log, now, by, now + settings.confirmation_timeout)
    due_at = deadlines.log_due(replace(run, log=log), now, uploaded=uploaded) or after.confirm_by
    after = replace(after, due_at=due_at)
    return Settled(run=after, writes=(Replace(after),))


def _given_up(after: Run) -> Settled:
    ticket: tuple[Write, ...] = (Create(ticket_for(after)),) if after.state is RunState.READY else ()
    return Settled(run=after, writes=(Replace(after), *ticket))


def _after_loss(run: Run, settings: PoolSettings, loss: Loss, now: datetime) -> Run:
    if run.state is RunState.PREPARING:
        return _after_offer(run, settings, loss, now)
    if run.ending:
        return unlogged(ended_as_decided(run, now, loss.by, loss.note), now)
    if run.retryable and run.losses + 1 < settings.losses:
        return replace(released(run, now, loss.by, loss.note, losses=1), due_at=now)
    return unlogged(failed(run, loss.reason, now, loss.by, loss.note), now)


def _after_offer(run: Run, settings: PoolSettings, loss: Loss, now: datetime) -> Run:
    """It had not begun: offered again, unless that has been tried often enough."""
    if loss.losses and run.losses + loss.losses >= settings.losses:
        note = f"{settings.losses} workers were lost: {loss.note}"
        return unlogged(failed(run, Reason.WORKER_LOST, now, loss.by, note), now)
    if loss.offers and run.offers + loss.offers >= settings.offers:
        note = f"{settings.offers} offers led to nothing: {loss.note}"
        return unlogged(failed(run, Reason.NO_WORKER_ANSWERED, now, loss.by, note), now)
    return released(run, now, loss.by, loss.note, losses=loss.losses, offers=loss.offers)


def unlogged(run: Run, now: datetime) -> Run:
    """A run that ended without its worker's word has no final log yet: due at once, for the sweep."""
    return replace(run, due_at=now if run.attempt or run.owes_reply else None, expires_at=now + deadlines.RETENTION)


def end_with(run: Run, end: LogEnd, settings: PoolSettings, now: datetime) -> Settled:
    """What becomes of a run by the end marker of its attempt: its worker had done all its work."""
    return concluded(run, end.outcome, end.digest, settings, now, "end marker", uploaded=True)
