"""A worker that is due: it was asked and did not answer, or its connection is lost and its run may be too."""

from collections.abc import Callable
from dataclasses import replace

from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.release import Release, held_run, release
from longshore.dispatcher.settle import Loss
from longshore.domain import deadlines
from longshore.domain.pool import Pool
from longshore.domain.run import Run
from longshore.domain.states import Reason, RunState
from longshore.domain.worker import Worker, WorkerState, asked, gone
from longshore.errors import Lost
from longshore.ports import Ports, Replace


def reap_worker(ports: Ports, pools: Pools, pool: Pool, worker: Worker) -> None:
    """Decide a due worker. Raises Unavailable when the bucket must be asked and does not answer."""
    run = held_run(ports, worker)
    if worker.state is WorkerState.ASKED:
        _write(ports, gone(worker, f"{worker.note}; did not answer", ports.clock() + deadlines.GONE_RETENTION))
    elif worker.state is WorkerState.BUSY and worker.disconnected_at and run:
        _judge(ports, pools, pool, worker, run)
    else:
        _write(ports, replace(worker, version=worker.version + 1, due_at=None))


def _judge(ports: Ports, pools: Pools, pool: Pool, worker: Worker, run: Run) -> None:
    """Lost only when it is disconnected, and its last message and newest chunk are older than the lease allows."""
    now = ports.clock()
    if run.state is RunState.PREPARING:
        due_at = now + pool.settings.accept_timeout
        loss = Loss(reason=Reason.WORKER_LOST, by="reaper", note="its worker lost its connection before it began")
        _release(ports, pools, worker, loss, lambda found: asked(found, loss.note, due_at))
        return
    chunk = ports.blobs.newest_chunk(run.pool_id, run.id, run.attempt, run.chunk)
    if chunk:
        run = replace(run, chunk=chunk.key, chunk_at=chunk.at)
    lost_at = deadlines.worker_silent_since(run, worker) + pool.settings.lost_after
    if now < lost_at:
        _write(ports, replace(worker, version=worker.version + 1, due_at=lost_at))
        return
    expires_at = now + deadlines.GONE_RETENTION
    loss = Loss(reason=Reason.WORKER_LOST, by="reaper", note="its worker is silent beyond its lease")
    _release(ports, pools, worker, loss, lambda found: gone(found, loss.note, expires_at))


def _release(ports: Ports, pools: Pools, worker: Worker, loss: Loss, after: Callable[[Worker], Worker]) -> None:
    how = Release(loss=loss, after=after, still=lambda found, _: found.version == worker.version)
    release(ports, pools, worker.pool_id, worker.id, how)


def _write(ports: Ports, worker: Worker) -> None:
    try:
        ports.store.commit(Replace(worker))
    except Lost:
        ports.log("event_ignored", {"worker": worker.id, "note": "changed meanwhile"})
