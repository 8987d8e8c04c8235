"""Taking a run from a worker that can no longer act, or never answered: what becomes of the run.

The one place that decides between offering a run again and ending it. Callers put the writes into the same
transaction as the worker's own.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from longshore.domain import deadlines
from longshore.domain.messages import LogEnd
from longshore.domain.pool import PoolSettings, ticket_for
from longshore.domain.run import Run, failed, finished, released
from longshore.domain.states import Reason, RunState
from longshore.ports import Create, Ports, Replace, Write


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Why a run is taken from its worker."""

    reason: Reason
    by: str
    note: str
    counts_as_loss: bool = True


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
            return end_with(run, end, now)
    after = _after_loss(run, settings, loss, now)
    if after.state is RunState.READY:
        return Settled(run=after, writes=(Replace(after), Create(ticket_for(after))))
    return Settled(run=after, writes=(Replace(after),))


def _after_loss(run: Run, settings: PoolSettings, loss: Loss, now: datetime) -> Run:
    losses = 1 if loss.counts_as_loss else 0
    offers = 1 - losses
    if run.state is RunState.PREPARING:
        if run.losses + losses >= settings.losses:
            return _unlogged(
                failed(run, Reason.WORKER_LOST, now, loss.by, f"{settings.losses} workers were lost: {loss.note}"), now
            )
        if run.offers + offers >= settings.offers:
            note = f"{settings.offers} offers were not answered"
            return _unlogged(failed(run, Reason.NO_WORKER_ANSWERED, now, loss.by, note), now)
        return released(run, now, loss.by, loss.note, losses=losses, offers=offers)
    reason = run.ending.reason if run.ending else loss.reason
    if run.retryable and not run.ending and run.losses + losses < settings.losses:
        return released(run, now, loss.by, loss.note, losses=losses)
    return _unlogged(failed(run, reason, now, loss.by, loss.note), now)


def _unlogged(run: Run, now: datetime) -> Run:
    """A run that ended without its worker's word has no final log yet: due at once, for whoever assembles it."""
    return replace(run, due_at=now if run.attempt else None, expires_at=now + deadlines.RETENTION)


def end_with(run: Run, end: LogEnd, now: datetime) -> Settled:
    """Ended with the outcome that stands in the attempt's end marker: its worker had done all its work."""
    after = finished(run, end.outcome, end.digest, now, "end marker")
    after = replace(after, expires_at=now + deadlines.RETENTION)
    return Settled(run=after, writes=(Replace(after),))
