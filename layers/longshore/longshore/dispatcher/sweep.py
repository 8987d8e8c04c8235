"""The pool part of a sweep: what no deadline stands for. It heals what lost messages left, pool by pool."""

from collections.abc import Sequence
from datetime import datetime

from longshore.dispatcher.announce import repeat
from longshore.dispatcher.finish import stop_task
from longshore.dispatcher.launch import launch_tasks
from longshore.dispatcher.lifetime import in_time
from longshore.dispatcher.match import match
from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.presence import NOT_ANSWERED, put_aside, send_who
from longshore.dispatcher.reap_launch import follow_launches, gone_at, reconcile, recount
from longshore.dispatcher.release import marker_gone
from longshore.dispatcher.start_failures import fail_waiting
from longshore.domain import deadlines
from longshore.domain.pool import Pool, PoolEntry, PoolKind
from longshore.domain.run import Run, touched
from longshore.domain.worker import Worker, WorkerState, leaving
from longshore.errors import LongshoreError, Lost
from longshore.ports import Ports, Replace

REMEMBERED = 2
"""A worker busy for so many sweeps beyond its accept timeout has answered; its run need not be read again."""


def sweep(ports: Ports, pools: Pools, until: datetime) -> int:
    """Look at each pool once, in an order that rotates with the time, until the time is up; how many were looked at."""
    entries = ports.store.pools()
    looked_at = 0
    for entry in rotated(entries, ports.clock()):
        if ports.clock() >= until:
            ports.log("sweep_cut_short", {"pools": len(entries), "looked_at": looked_at})
            break
        try:
            _sweep_pool(ports, pools, entry.pool_id, until)
        except LongshoreError as error:
            ports.log("pool_not_swept", {"pool": entry.pool_id, "note": str(error)[:200]})
        looked_at += 1
    return looked_at


def rotated(entries: Sequence[PoolEntry], now: datetime) -> list[PoolEntry]:
    """Start elsewhere each minute, so that a sweep cut short starves no pool."""
    start = int(now.timestamp() // 60) % len(entries) if entries else 0
    return [*entries[start:], *entries[:start]]


def _sweep_pool(ports: Ports, pools: Pools, pool_id: str, until: datetime) -> None:
    """Each part is begun only in time: one pool whose calls hang leaves the function alive for the next tick."""
    pool = pools.get(pool_id)
    if not pool:
        return
    workers = ports.store.workers(pool_id)
    _offers(ports, pools, pool, workers)
    now = ports.clock()
    for worker in workers:
        in_time(ports, until)
        if is_missed(worker, now):
            send_who(ports, worker)
        elif worker.state is WorkerState.LEAVING:
            stop_task(ports, worker)
    if pool.kind_of is PoolKind.FARGATE:
        follow_launches(ports, pool, until)
        fail_waiting(ports, pool)
    in_time(ports, until)
    match(ports, pools, pool_id)
    if pool.kind_of is PoolKind.FARGATE:
        in_time(ports, until)
        if pool.settings.warm:
            launch_tasks(ports, pool)
        counters = ports.store.counters(pool_id)
        launches = ports.store.launches(pool_id)
        if counters:
            recount(ports, counters, launches)
        workers = ports.store.workers(pool_id)
        _scale_in(ports, pool, workers, until)
        reconcile(ports, launches, workers, until)


def is_missed(worker: Worker, now: datetime) -> bool:
    """Whether a worker may be there without the table knowing: it is asked `who`, and comes back by registering."""
    match worker.state:
        case WorkerState.ASKED:
            return True
        case WorkerState.BUSY:
            return worker.disconnected_at is not None
        case WorkerState.GONE:
            return not worker.left and now < gone_at(worker) + deadlines.LOOKED_FOR
        case _:
            return False


def _offers(ports: Ports, pools: Pools, pool: Pool, workers: Sequence[Worker]) -> None:
    """Offers that nobody answered: sent once more first, then taken back and offered elsewhere."""
    now = ports.clock()
    fresh = now - pool.settings.prepare_timeout - deadlines.SWEEP * REMEMBERED
    suspects = {w.run: w for w in workers if w.state is WorkerState.BUSY and w.run and (w.busy_since or now) > fresh}
    for run in ports.store.runs(suspects).values():
        worker = suspects[run.id]
        if not deadlines.unanswered(run, pool.settings, now) or run.worker != worker.id or run.answered_at:
            continue
        if run.resent_at:
            put_aside(ports, pools, worker, run, NOT_ANSWERED)
        else:
            _offer_again(ports, pool, run, now)


def _offer_again(ports: Ports, pool: Pool, run: Run, now: datetime) -> None:
    again = touched(run, resent_at=now)
    try:
        ports.store.commit(Replace(again))
    except Lost:
        return
    repeat(ports, pool, again)


def _scale_in(ports: Ports, pool: Pool, workers: Sequence[Worker], until: datetime) -> None:
    """Idle tasks past the idle timeout leave, but for those that the pool keeps warm.

    First the marker goes, then the task, so that no run is given to them.
    """
    now = ports.clock()
    tasks = (worker for worker in workers if worker.state is WorkerState.IDLE and worker.launch)
    idle = sorted(tasks, key=lambda worker: worker.idle_since or now)
    for worker in idle[: max(0, len(idle) - pool.settings.warm)]:
        if now - (worker.idle_since or now) < pool.settings.idle_timeout:
            continue
        in_time(ports, until)
        left = leaving(worker, "idle for too long", now + deadlines.LEAVE)
        try:
            ports.store.commit(Replace(left), marker_gone(worker))
        except Lost:
            continue
        stop_task(ports, left)
