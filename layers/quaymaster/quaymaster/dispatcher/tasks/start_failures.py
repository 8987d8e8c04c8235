"""Runs that wait for a pool which can start nothing: they end with the real reason, past the pool's limit."""

from datetime import datetime

from quaymaster.dispatcher.apart import apart
from quaymaster.dispatcher.settle import unlogged
from quaymaster.domain.pool import Pool, Starts, Ticket
from quaymaster.domain.run import Run, failed
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.trouble import Trouble
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Delete, Ports, Replace, Require, Write

AT_ONCE = 50
"""So many runs of a pool are ended in one sweep; the next goes on."""


def fail_waiting(ports: Ports, pool: Pool, until: datetime) -> None:
    """End the runs that have waited for longer than `start_failure_limit` while every start failed for good.

    A task that becomes a worker meanwhile ends the trouble, and so keeps them.
    """
    starts = ports.store.starts(pool.id)
    trouble = starts.trouble if starts else None
    if not starts or not trouble or not trouble.is_the_pools:
        return
    now = ports.clock()

    def judge(ticket: Ticket) -> None:
        ends = trouble.ends_runs_from(ticket.waits_since, pool.settings.start_failure_limit)
        if ends and now >= ends:
            _fail(ports, starts, trouble, ticket, now)

    tickets = ports.store.tickets(pool.id, AT_ONCE)
    apart(ports, until, tickets, judge, lambda ticket: ("run_not_swept", {"pool": pool.id, "run": ticket.run_id}))


def _fail(ports: Ports, starts: Starts, trouble: Trouble, ticket: Ticket, now: datetime) -> None:
    note = f"no task could be started, {trouble.times} times in a row: {trouble.note}"
    end_waiting(ports, ticket, trouble.reason, note, now, Require(starts))


def end_waiting(ports: Ports, ticket: Ticket, reason: Reason, note: str, now: datetime, *beside: Write) -> None:
    """End a run that waits, unless somebody has taken it meanwhile."""
    run = ports.store.run(ticket.run_id)
    if not run or run.state is not RunState.READY:
        return
    try:
        ports.store.commit(*ended_waiting(run, ticket, reason, note, now), *beside)
    except (Lost, Busy):
        ports.log("event_ignored", {"run": run.id, "note": "changed meanwhile"})
        return
    ports.log("run_ended", {"run": run.id, "state": RunState.FAILED, "reason": reason, "attempt": run.attempt})


def ended_waiting(run: Run, ticket: Ticket, reason: Reason, note: str, now: datetime) -> tuple[Write, ...]:
    """The writes that end a READY run, which has this ticket."""
    # The log of a lost attempt is still to be put together.
    return Replace(unlogged(failed(run, reason, now, "reaper", note), now)), Delete(ticket)
