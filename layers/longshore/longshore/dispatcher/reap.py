"""The due part of a sweep: whatever has passed its deadline is read again, consistently, and looked at.

The index may be stale in both directions; only the fresh item counts. One item that cannot be handled is pushed
forward and counted, so that it never stops the rest.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from longshore.dispatcher.launch import call
from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.reap_run import reap_run
from longshore.dispatcher.reap_worker import reap_worker
from longshore.dispatcher.task_events import account
from longshore.domain.keys import Key
from longshore.domain.pool import Launch, Pool
from longshore.domain.run import Run
from longshore.domain.worker import Worker
from longshore.errors import Busy, LongshoreError, Lost
from longshore.ports import Ports, Replace

SWEEP_LIMIT = 200
PUSH = timedelta(minutes=2)


@dataclass(frozen=True, kw_only=True)
class Reaped:
    """How many items were due, and how many of them could not be handled."""

    due: int
    failed: int


def reap(ports: Ports, pools: Pools, limit: int = SWEEP_LIMIT) -> Reaped:
    """Look at everything that is due, up to the limit; the next sweep goes on."""
    failed = 0
    keys = ports.store.overdue(ports.clock(), limit)
    for key in keys:
        try:
            look(ports, pools, key)
        except LongshoreError as error:
            failed += 1
            ports.log("not_reaped", {"pk": key.pk, "sk": key.sk, "note": str(error)[:200]})
            _push(ports, key)
    return Reaped(due=len(keys), failed=failed)


def look(ports: Ports, pools: Pools, key: Key) -> None:
    """Look at one item, if it is due: a run, a worker or a launch."""
    record = ports.store.due(key)
    if not record or not record.due_at or record.due_at > ports.clock():
        return
    pool = pools.get(record.pool_id)
    if not pool:
        ports.log("pool_missing", {"pk": key.pk, "sk": key.sk})
        _write(ports, record, None)
        return
    match record:
        case Run():
            reap_run(ports, pools, pool, record)
        case Worker():
            reap_worker(ports, pools, pool, record)
        case Launch():
            _follow_launch(ports, pool, record)


def _follow_launch(ports: Ports, pool: Pool, launch: Launch) -> None:
    """A launch whose answer was never written is repeated; tasks that never came to anything are given back."""
    if not launch.answered:
        call(ports, pool, launch)
        return
    if not launch.starting:
        _write(ports, launch, None)
        return
    alive = set(ports.tasks.of_launch(launch.id))
    for arn in launch.tasks:
        if arn not in alive:
            _count_stopped(ports, launch, arn)
    current = ports.store.launch(launch.pool_id, launch.id)
    if current and current.due_at and current.due_at <= ports.clock():
        waits = ports.clock() + pool.settings.start_timeout if current.starting else None
        _write(ports, current, waits)


def _count_stopped(ports: Ports, launch: Launch, arn: str) -> None:
    writes = account(ports, launch.pool_id, launch.id, arn, "its task is gone, and no event said so")
    if writes:
        ports.store.commit(*writes)


def _push(ports: Ports, key: Key) -> None:
    """Move an item that could not be handled out of the way of the others."""
    record = ports.store.due(key)
    if record and record.due_at:
        _write(ports, record, ports.clock() + PUSH)


def _write(ports: Ports, record: Run | Worker | Launch, due_at: datetime | None) -> None:
    try:
        ports.store.commit(Replace(replace(record, version=record.version + 1, due_at=due_at)))
    except (Lost, Busy):
        ports.log("event_ignored", {"pk": record.key.pk, "note": "changed meanwhile"})
