"""Taking a worker out of service, with whatever run it holds."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from quaymaster.dispatcher.placing.match import match
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.settle import Loss, settle
from quaymaster.domain.pool import PoolSettings
from quaymaster.domain.run import Run
from quaymaster.domain.states import RunState
from quaymaster.domain.worker import Marker, Worker, WorkerState
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Delete, Ports, Replace, Write, rewritten

TRIES = 24
"""The ten tasks of a launch, and their workers, may change it at the same moment: each round of them one wins."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """How a worker leaves: the loss its run suffers, and the worker's item afterwards, if there is one.

    `still` is asked of each fresh read; when it says no, somebody else has changed what this release was about.
    `beside`: what else is written with it, after so many tries.
    """

    loss: Loss
    after: Callable[[Worker], Worker | None]
    still: Callable[[Worker, Run | None], bool] = lambda worker, run: True
    beside: Callable[[int], tuple[Write, ...]] = lambda tries: ()


def release(ports: Ports, pools: Pools, pool_id: str, worker_id: str, how: Release) -> Run | None:
    """Take the worker out, and its run from it; the run as it then stands, or None if it held none.

    One transaction, tried again with fresh reads while others win. Raises Busy when they always do, Unavailable when
    the end marker cannot be read: then nothing is decided yet.
    """
    pool = pools.get(pool_id)
    if not pool:
        return None
    for tries in range(TRIES):
        worker = ports.store.worker(pool_id, worker_id)
        if not worker:
            return None
        run = held_run(ports, worker)
        if not how.still(worker, run):
            return None
        writes, after = _plan(ports, pool.settings, worker, run, how)
        writes += how.beside(tries)
        if not writes:
            return None
        try:
            ports.store.commit(*writes)
        except Lost:
            continue
        note = {"worker": worker_id, "was": worker.state, "run": run.id if run else None, "note": how.loss.note[:120]}
        ports.log("worker_released", note)
        if run and after:
            _follow_up(ports, pools, after)
        return after
    raise Busy(f"worker {worker_id}: others kept writing")


def _follow_up(ports: Ports, pools: Pools, after: Run) -> None:
    """A run that is offered again wants a worker. Its log is the sweep's: putting one together takes a while."""
    if after.state is RunState.READY:
        match(ports, pools, after.pool_id)


def held_run(ports: Ports, worker: Worker) -> Run | None:
    """The run that this worker holds, if both items say so."""
    if worker.state is not WorkerState.BUSY or not worker.run:
        return None
    run = ports.store.run(worker.run)
    if run and worker.attempt and run.held_by(worker.id, worker.session, worker.attempt):
        return run
    return None


def _plan(
    ports: Ports, settings: PoolSettings, worker: Worker, run: Run | None, how: Release
) -> tuple[list[Write], Run | None]:
    after = how.after(worker)
    if run and run.state is RunState.RUNNING and after and after != worker:
        after = replace(after, runs_done=after.runs_done + 1)
    writes: list[Write] = [] if after == worker else [*(rewritten(worker, after) if after else (Delete(worker),))]
    if worker.marker:
        writes.append(marker_gone(worker))
    goes = writes and after and after.state is WorkerState.GONE
    agent = ports.store.agent(worker.pool_id, worker.id) if goes else None
    if agent and after and not agent.expires_at:
        writes.append(Replace(replace(agent, version=agent.version + 1, expires_at=after.expires_at)))
    if not run:
        return writes, None
    settled = settle(ports, run, settings, how.loss, ports.clock())
    return [*writes, *settled.writes], settled.run


def marker_gone(worker: Worker) -> Delete:
    """The write that takes an idle worker's marker away."""
    return Delete(Marker(random=worker.marker or "", worker=worker))
