"""A worker that is due: it was asked and did not answer, or its connection is lost and its run may be too."""

from dataclasses import replace

from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.release import Release, held_run, release
from quaymaster.dispatcher.settle import Loss
from quaymaster.dispatcher.workers.presence import ask, put_aside
from quaymaster.domain import deadlines
from quaymaster.domain.pool import Pool
from quaymaster.domain.run import Run
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import Worker, WorkerState, gone, questioned
from quaymaster.errors import Lost
from quaymaster.ports import Ports, Replace, rewritten


def reap_worker(ports: Ports, pools: Pools, pool: Pool, worker: Worker) -> None:
    """Decide a due worker. Raises Unavailable when the bucket must be asked and does not answer."""
    run = held_run(ports, worker)
    if worker.state is WorkerState.ASKED:
        _let_it_go(ports, pools, worker, f"{worker.note}; did not answer")
    elif worker.state is WorkerState.LEAVING:
        # It takes no more runs, whether or not it is still there.
        _let_it_go(ports, pools, worker, f"{worker.note}; never said goodbye", sought=False)
    elif worker.state is WorkerState.BUSY and worker.disconnected_at and run:
        _judge(ports, pools, pool, worker, run)
    elif worker.state is WorkerState.GONE:
        _forget(ports, worker)
    else:
        _write(ports, replace(worker, version=worker.version + 1, due_at=None))


def _forget(ports: Ports, worker: Worker) -> None:
    """It has been sought for long enough: it lies with what is over, and may still come back by itself."""
    over = replace(worker, version=worker.version + 1, due_at=None)
    try:
        ports.store.commit(*rewritten(worker, over))
    except Lost:
        ports.log("event_ignored", {"worker": worker.id, "note": "changed meanwhile"})


def _judge(ports: Ports, pools: Pools, pool: Pool, worker: Worker, run: Run) -> None:
    """Lost only when it is disconnected, and its last message and newest chunk are older than the lease allows."""
    if run.state is RunState.PREPARING:
        put_aside(ports, pools, worker, run, NOT_BEGUN)
        return
    now = ports.clock()
    chunk = ports.blobs.newest_chunk(run.pool_id, run.id, run.attempt, run.chunk)
    seen = replace(run, chunk=chunk.key, chunk_at=chunk.at) if chunk else run
    lost_at = deadlines.worker_silent_since(seen, worker) + pool.settings.lost_after
    if now < lost_at:
        _write(ports, replace(worker, version=worker.version + 1, due_at=lost_at))
        return
    wait = pool.settings.accept_timeout
    if not worker.asked_at:
        # It may have come back long ago, and its word wait in a queue: a fresh question gets a fresh answer.
        if _write(ports, questioned(worker, now, now + wait)):
            ask(ports, worker, wait)
        return
    loss = Loss(reason=Reason.WORKER_LOST, by="reaper", note="its worker is silent beyond its lease")
    _release(ports, pools, worker, run, loss)


def _let_it_go(ports: Ports, pools: Pools, worker: Worker, note: str, *, sought: bool = True) -> None:
    loss = Loss(reason=Reason.WORKER_LOST, by="reaper", note=note)
    _release(ports, pools, worker, None, loss, sought=sought)


def _release(ports: Ports, pools: Pools, worker: Worker, run: Run | None, loss: Loss, *, sought: bool = True) -> None:
    """The worker is gone, if it and its run are still as they were judged."""
    now = ports.clock()
    expires_at, sought_until = now + deadlines.GONE_RETENTION, now + deadlines.LOOKED_FOR if sought else None
    how = Release(
        loss=loss,
        after=lambda found: gone(found, loss.note, expires_at, sought_until=sought_until),
        still=lambda found, held: found.version == worker.version and held == run,
    )
    release(ports, pools, worker.pool_id, worker.id, how)


def _write(ports: Ports, worker: Worker) -> bool:
    try:
        ports.store.commit(Replace(worker))
    except Lost:
        ports.log("event_ignored", {"worker": worker.id, "note": "changed meanwhile"})
        return False
    return True


NOT_BEGUN = Loss(reason=Reason.WORKER_LOST, by="reaper", note="its worker lost its connection before it began")
