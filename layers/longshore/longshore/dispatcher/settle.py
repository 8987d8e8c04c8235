"""Taking a run from a worker that can no longer act, or never answered: what becomes of the run.

The one place that decides between offering a run again and ending it. Callers put the writes into the same
transaction as the worker's own.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from longshore.domain import deadlines
from longshore.domain.messages import LogEnd, Outcome
from longshore.domain.pool import PoolSettings, ticket_for
from longshore.domain.run import Run, ended_as_decided, failed, finished, released
from longshore.domain.states import Reason, RunState
from longshore.ports import Create, Ports, Replace, Write


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
        if end and not _cut_short(run, end, loss):
            return end_with(run, end, now)
    after = _after_loss(run, settings, loss, now)
    if after.state is RunState.READY:
        return Settled(run=after, writes=(Replace(after), Create(ticket_for(after))))
    return Settled(run=after, writes=(Replace(after),))


def _cut_short(run: Run, end: LogEnd, loss: Loss) -> bool:
    return loss.reason is Reason.SPOT_INTERRUPTED and may_repeat(run, end.outcome)


def may_repeat(run: Run, outcome: Outcome) -> bool:
    """Whether a run was ended by nothing but its host's going, and asks to be repeated for that."""
    return outcome.reason is Reason.INTERRUPTED and run.retryable and not run.ending


def repeated(run: Run, settings: PoolSettings, now: datetime) -> Settled:
    """What becomes of such a run as its worker reports it: READY again, unless that has been so too often."""
    after = _after_loss(run, settings, Loss(reason=Reason.INTERRUPTED, by="worker", note="its host went away"), now)
    ticket: tuple[Write, ...] = (Create(ticket_for(after)),) if after.state is RunState.READY else ()
    return Settled(run=after, writes=(Replace(after), *ticket))


def _after_loss(run: Run, settings: PoolSettings, loss: Loss, now: datetime) -> Run:
    if run.state is RunState.PREPARING:
        return _after_offer(run, settings, loss, now)
    if run.ending:
        return _unlogged(ended_as_decided(run, now, loss.by, loss.note), now)
    if run.retryable and run.losses + 1 < settings.losses:
        return replace(released(run, now, loss.by, loss.note, losses=1), due_at=now)
    return _unlogged(failed(run, loss.reason, now, loss.by, loss.note), now)


def _after_offer(run: Run, settings: PoolSettings, loss: Loss, now: datetime) -> Run:
    """It had not begun: offered again, unless that has been tried often enough."""
    if loss.losses and run.losses + loss.losses >= settings.losses:
        note = f"{settings.losses} workers were lost: {loss.note}"
        return _unlogged(failed(run, Reason.WORKER_LOST, now, loss.by, note), now)
    if loss.offers and run.offers + loss.offers >= settings.offers:
        note = f"{settings.offers} offers led to nothing: {loss.note}"
        return _unlogged(failed(run, Reason.NO_WORKER_ANSWERED, now, loss.by, note), now)
    return released(run, now, loss.by, loss.note, losses=loss.losses, offers=loss.offers)


def _unlogged(run: Run, now: datetime) -> Run:
    """A run that ended without its worker's word has no final log yet: due at once, for the sweep."""
    return replace(run, due_at=now if run.attempt else None, expires_at=now + deadlines.RETENTION)


def end_with(run: Run, end: LogEnd, now: datetime) -> Settled:
    """Ended with the outcome that stands in the attempt's end marker: its worker had done all its work."""
    after = finished(run, end.outcome, end.digest, now, "end marker")
    after = replace(after, due_at=now if after.began_before else None, expires_at=now + deadlines.RETENTION)
    return Settled(run=after, writes=(Replace(after),))
