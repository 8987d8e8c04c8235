"""The due part of a sweep: whatever has passed its deadline is read again, consistently, and looked at.

The index may be stale in both directions; only the fresh item counts. Each is pushed forward before it is looked at,
further each time that nothing came of that, and counted, so that it never stops the rest, even if the function dies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from quaymaster.dispatcher.logs.assemble import assemble, assemble_earlier
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.reaper.expire import expired_unconfirmed
from quaymaster.dispatcher.reaper.reap_run import reap_run
from quaymaster.dispatcher.reaper.reap_worker import reap_worker
from quaymaster.dispatcher.replies import tell_end
from quaymaster.dispatcher.tasks.follow import follow_launch
from quaymaster.domain.deadlines import pushed
from quaymaster.domain.keys import Key
from quaymaster.domain.pool import Launch, Pool
from quaymaster.domain.run import Run
from quaymaster.domain.states import HELD
from quaymaster.domain.worker import Worker
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Ports, Replace

SWEEP_LIMIT = 200

type Due = Run | Worker | Launch


@dataclass(frozen=True, kw_only=True)
class Reaped:
    """How many items were looked at as due, and how many of them could not be handled."""

    due: int
    failed: int


def reap(ports: Ports, pools: Pools, until: datetime, limit: int = SWEEP_LIMIT) -> Reaped:
    """Look at everything that is due, up to the limit and until the time is up; the next sweep goes on.

    Whatever has ended in this turn has its log put together in the same sweep, if the index is quick enough.
    """
    first = _reap(ports, pools, ports.store.overdue(ports.clock(), limit), until)
    if not first.handled:
        return first.counted
    again = [key for key in ports.store.overdue(ports.clock(), limit) if key not in first.failed]
    second = _reap(ports, pools, again, until)
    return Reaped(due=first.counted.due, failed=first.counted.failed + second.counted.failed)


@dataclass(frozen=True)
class _Turn:
    handled: Sequence[Key]
    failed: Sequence[Key]

    @property
    def counted(self) -> Reaped:
        return Reaped(due=len(self.handled) + len(self.failed), failed=len(self.failed))


def _reap(ports: Ports, pools: Pools, keys: Sequence[Key], until: datetime) -> _Turn:
    handled: list[Key] = []
    failed: list[Key] = []
    for key in keys:
        if ports.clock() >= until:
            ports.log("reap_cut_short", {"due": len(keys), "looked_at": len(handled) + len(failed)})
            break
        try:
            _take(ports, pools, key)
        except Exception as error:
            # Whatever is wrong with one item, a mistake of ours included: the others have their turn.
            failed.append(key)
            ports.log("not_reaped", {"pk": key.pk, "sk": key.sk, "note": f"{type(error).__name__}: {error}"[:200]})
        else:
            handled.append(key)
    return _Turn(handled, failed)


def _take(ports: Ports, pools: Pools, key: Key) -> None:
    found = _find(ports, pools, key)
    if not found:
        return
    record, pool = found
    # Before it is looked at: whatever that does to this function, the others are before it in the next sweep.
    record = pushed(record, ports.clock())
    if not _write(ports, record):
        return
    if isinstance(record, Run) and record.state not in HELD:
        _close(ports, pool, record)
        return
    _judge(ports, pools, pool, record)
    if isinstance(record, Run) and record.began_before:
        # Behind the judgement, which has moved the deadline.
        assemble_earlier(ports, pool.settings, record)


def _close(ports: Ports, pool: Pool, run: Run) -> None:
    """What is left to do for a run that no worker holds: its end if nobody confirmed it, its log, its reply."""
    after = expired_unconfirmed(run, ports.clock())
    if after is not run:
        if not _write(ports, after):
            return
        ports.log("run_ended", {"run": run.id, "state": after.state, "reason": after.reason, "attempt": run.attempt})
    assemble(ports, pool.settings, tell_end(ports, after))


def look(ports: Ports, pools: Pools, key: Key) -> None:
    """Look at one item, if it is due: a run, a worker or a launch.

    A run that is due for its log is left to the sweep: whoever calls this has no time for it.
    """
    found = _find(ports, pools, key)
    if found and not (isinstance(found[0], Run) and found[0].state not in HELD):
        _judge(ports, pools, found[1], found[0])


def _find(ports: Ports, pools: Pools, key: Key) -> tuple[Due, Pool] | None:
    """The item and its pool, if it is due indeed."""
    record = ports.store.due(key)
    if not record or not record.due_at or record.due_at > ports.clock():
        return None
    pool = pools.get(record.pool_id)
    if not pool:
        ports.log("pool_missing", {"pk": key.pk, "sk": key.sk})
        _write(ports, replace(record, version=record.version + 1, due_at=None))
        return None
    return record, pool


def _judge(ports: Ports, pools: Pools, pool: Pool, record: Due) -> None:
    match record:
        case Run():
            reap_run(ports, pools, pool, record)
        case Worker():
            reap_worker(ports, pools, pool, record)
        case Launch():
            follow_launch(ports, pool, record)


def _write(ports: Ports, record: Due) -> bool:
    """Whether the record was still as it was read."""
    try:
        ports.store.commit(Replace(record))
    except (Lost, Busy):
        ports.log("event_ignored", {"pk": record.key.pk, "note": "changed meanwhile"})
        return False
    return True
