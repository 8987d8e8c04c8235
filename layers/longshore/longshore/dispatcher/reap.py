"""The due part of a sweep: whatever has passed its deadline is read again, consistently, and looked at.

The index may be stale in both directions; only the fresh item counts. One item that cannot be handled is pushed
forward and counted, so that it never stops the rest.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.reap_launch import follow_launch
from longshore.dispatcher.reap_run import reap_run
from longshore.dispatcher.reap_worker import reap_worker
from longshore.domain.keys import Key
from longshore.domain.pool import Launch
from longshore.domain.run import Run
from longshore.domain.worker import Worker
from longshore.errors import Busy, Lost, Unavailable
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
        except Exception as error:
            # Whatever is wrong with one item, a mistake of ours included: the others have their turn.
            failed += 1
            ports.log("not_reaped", {"pk": key.pk, "sk": key.sk, "note": f"{type(error).__name__}: {error}"[:200]})
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
            follow_launch(ports, pool, record)


def _push(ports: Ports, key: Key) -> None:
    """Move an item that could not be handled out of the way of the others."""
    try:
        record = ports.store.due(key)
        if record and record.due_at:
            _write(ports, record, ports.clock() + PUSH)
    except Unavailable as error:
        ports.log("not_pushed", {"pk": key.pk, "sk": key.sk, "note": str(error)[:120]})


def _write(ports: Ports, record: Run | Worker | Launch, due_at: datetime | None) -> None:
    try:
        ports.store.commit(Replace(replace(record, version=record.version + 1, due_at=due_at)))
    except (Lost, Busy):
        ports.log("event_ignored", {"pk": record.key.pk, "note": "changed meanwhile"})
