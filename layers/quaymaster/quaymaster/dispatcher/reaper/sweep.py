"""The pool part of a sweep: what no deadline stands for. It heals what lost messages left, pool by pool."""

from collections.abc import Callable, Sequence
from datetime import datetime

from quaymaster.dispatcher.apart import apart
from quaymaster.dispatcher.placing.announce import repeat
from quaymaster.dispatcher.placing.match import match
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.reaper.expire import expire_waiting
from quaymaster.dispatcher.release import marker_gone
from quaymaster.dispatcher.tasks.follow import follow_launches, gone_at, reconcile, recount
from quaymaster.dispatcher.tasks.image_definitions import retire_unused
from quaymaster.dispatcher.tasks.launch import launch_tasks
from quaymaster.dispatcher.tasks.start_failures import fail_waiting
from quaymaster.dispatcher.tasks.strays import stop_strays
from quaymaster.dispatcher.workers.finish import stop_task
from quaymaster.dispatcher.workers.presence import NOT_ANSWERED, put_aside, send_who
from quaymaster.domain import deadlines
from quaymaster.domain.pool import Pool, PoolEntry, PoolKind
from quaymaster.domain.run import Run, touched
from quaymaster.domain.worker import Worker, WorkerState, leaving
from quaymaster.errors import Lost
from quaymaster.ports import Ports, Replace

REMEMBERED = 2
"""A worker busy for so many sweeps beyond its accept timeout has answered; its run need not be read again."""


def sweep(ports: Ports, pools: Pools, until: datetime) -> int:
    """Look at each pool once, in an order that rotates with the time, until the time is up; how many were looked at."""
    entries = rotated(ports.store.pools(), ports.clock())
    looked_at = apart(
        ports,
        until,
        entries,
        lambda entry: _sweep_pool(ports, pools, entry.pool_id, until),
        lambda entry: ("pool_not_swept", {"pool": entry.pool_id}),
    )
    if looked_at < len(entries):
        ports.log("sweep_cut_short", {"pools": len(entries), "looked_at": looked_at})
    return looked_at


def rotated(entries: Sequence[PoolEntry], now: datetime) -> list[PoolEntry]:
    """Start elsewhere each minute, so that a sweep cut short starves no pool."""
    start = int(now.timestamp() // 60) % len(entries) if entries else 0
    return [*entries[start:], *entries[:start]]


def _sweep_pool(ports: Ports, pools: Pools, pool_id: str, until: datetime) -> None:
    """Each part is begun only in time, and none takes the next ones along: calls may hang, and mistakes be ours."""
    pool = pools.get(pool_id)
    if not pool:
        return
    workers = ports.store.workers(pool_id)
    parts: dict[str, Callable[[], object]] = {
        "offers": lambda: _offers(ports, pools, pool, workers, until),
        "workers": lambda: _call_back(ports, workers, until),
        "expired": lambda: expire_waiting(ports, pool, until),
    }
    if pool.kind_of is PoolKind.FARGATE:
        parts |= {
            "launches": lambda: follow_launches(ports, pool, until),
            "waiting": lambda: fail_waiting(ports, pool, until),
        }
    parts["match"] = lambda: match(ports, pools, pool_id)
    if pool.kind_of is PoolKind.FARGATE:
        parts |= {
            "warm": lambda: _start_unasked(ports, pool),
            "tasks": lambda: _tasks(ports, pool, until),
            "strays": lambda: stop_strays(ports, pool, until),
            "definitions": lambda: retire_unused(ports, pool, until),
        }
    begun = apart(
        ports,
        until,
        parts,
        lambda name: parts[name](),
        lambda name: ("pool_not_swept", {"pool": pool_id, "part": name}),
    )
    if begun < len(parts):
        ports.log("pool_not_swept", {"pool": pool_id, "part": list(parts)[begun], "note": "no time is left for it"})


def _start_unasked(ports: Ports, pool: Pool) -> None:
    """What no ticket of the queue asks for: tasks that are kept idle, and those of runs that wait for one of their own.

    Whatever the pool allows by now: those runs were accepted.
    """
    if pool.settings.warm or ports.store.bound(pool.id, 1):
        launch_tasks(ports, pool)


def _call_back(ports: Ports, workers: Sequence[Worker], until: datetime) -> None:
    now = ports.clock()

    def call(worker: Worker) -> None:
        if is_missed(worker, now):
            send_who(ports, worker)
        elif worker.state is WorkerState.LEAVING:
            stop_task(ports, worker)

    apart(ports, until, workers, call, _unswept)


def _unswept(worker: Worker) -> tuple[str, dict[str, str]]:
    return "worker_not_swept", {"pool": worker.pool_id, "worker": worker.id}


def _tasks(ports: Ports, pool: Pool, until: datetime) -> None:
    """The workers are read after the launches: a worker is there as soon as its launch says that it has joined."""
    counters = ports.store.counters(pool.id)
    launches = ports.store.launches(pool.id)
    if counters:
        recount(ports, counters, launches)
    workers = ports.store.workers(pool.id)
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


def _offers(ports: Ports, pools: Pools, pool: Pool, workers: Sequence[Worker], until: datetime) -> None:
    """Offers that nobody answered: sent once more first, then taken back and offered elsewhere."""
    now = ports.clock()
    fresh = now - pool.settings.prepare_timeout - deadlines.SWEEP * REMEMBERED
    suspects = {w.run: w for w in workers if w.state is WorkerState.BUSY and w.run and (w.busy_since or now) > fresh}

    def judge(run: Run) -> None:
        worker = suspects[run.id]
        if not deadlines.unanswered(run, pool.settings, now) or run.worker != worker.id or run.answered_at:
            return
        if run.resent_at:
            put_aside(ports, pools, worker, run, NOT_ANSWERED)
        else:
            _offer_again(ports, pool, run, now)

    found = ports.store.runs(suspects).values()
    apart(ports, until, found, judge, lambda run: ("run_not_swept", {"pool": pool.id, "run": run.id}))


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

    def leave(worker: Worker) -> None:
        if now - (worker.idle_since or now) < pool.settings.idle_timeout:
            return
        left = leaving(worker, "idle for too long", now + deadlines.LEAVE)
        try:
            ports.store.commit(Replace(left), marker_gone(worker))
        except Lost:
            return
        stop_task(ports, left)

    apart(ports, until, idle[: max(0, len(idle) - pool.settings.warm)], leave, _unswept)
