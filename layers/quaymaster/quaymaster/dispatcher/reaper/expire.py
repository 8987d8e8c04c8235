"""Runs that have waited for longer than their pool allows: in the queue for a worker, or for confirmation."""

from datetime import datetime

from quaymaster.dispatcher.apart import apart
from quaymaster.dispatcher.settle import unlogged
from quaymaster.dispatcher.tasks.start_failures import end_waiting
from quaymaster.domain.durations import format_duration
from quaymaster.domain.pool import Pool, PoolKind, Starts, Ticket
from quaymaster.domain.run import Run
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.steering import unwanted
from quaymaster.domain.trouble import TroubleKind
from quaymaster.ports import Ports

AT_ONCE = 100
"""The first so many of the queue are looked at in each sweep: those behind them wait their turn for this too."""


def expire_waiting(ports: Ports, pool: Pool, until: datetime) -> None:
    """End the runs that were accepted so long ago and wait still, by what there was too little of."""
    now, timeout = ports.clock(), pool.settings.queue_timeout
    waiting = ports.store.tickets(pool.id, AT_ONCE)
    if pool.kind_of is PoolKind.FARGATE:
        # Whatever the pool allows by now: they were accepted.
        waiting += ports.store.bound(pool.id, AT_ONCE)
    late = [one for one in waiting if now >= one.waits_since + timeout]
    if not late:
        return
    reason, note = _lacking(ports.store.starts(pool.id))
    waited = f"it waited for a worker for {format_duration(timeout)}{note}"

    def end(ticket: Ticket) -> None:
        end_waiting(ports, ticket, reason, waited, now)

    apart(ports, until, late, end, lambda ticket: ("run_not_swept", {"pool": pool.id, "run": ticket.run_id}))


def expired_unconfirmed(run: Run, now: datetime) -> Run:
    """A run that nobody has confirmed in time, ended; any other one as it is."""
    if run.state is not RunState.UNCONFIRMED or not run.confirm_by or now < run.confirm_by:
        return run
    return unlogged(unwanted(run, now), now)


def _lacking(starts: Starts | None) -> tuple[Reason, str]:
    trouble, drought = (starts.trouble, starts.drought) if starts else (None, None)
    if trouble and trouble.kind is TroubleKind.CAPACITY:
        return Reason.NO_CAPACITY, f"; AWS had none to give, {trouble.times} times in a row: {trouble.note}"
    if drought:
        return Reason.NO_CAPACITY, f"; Fargate Spot had nothing to give, {drought.times} times in a row: {drought.note}"
    return Reason.QUEUE_EXPIRED, ""
