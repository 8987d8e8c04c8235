"""What must hold of the table after every step (DESIGN 10)."""

from longshore.domain import keys
from longshore.domain.pool import Counters, Launch, Pool, Ticket
from longshore.domain.run import Run
from longshore.domain.states import HELD, RunState
from longshore.domain.worker import Marker, Worker, WorkerState

from tests.unit.dispatcher.world import World


def check(world: World) -> None:
    """Raises AssertionError for anything in the table that does not fit the rest."""
    records = world.table.records()
    runs = {run.id: run for run in records if isinstance(run, Run)}
    workers = {worker.id: worker for worker in records if isinstance(worker, Worker)}
    for run in runs.values():
        _check_run(run, workers)
    for worker in workers.values():
        _check_worker(worker, runs)
    tickets = {ticket.run_id for ticket in records if isinstance(ticket, Ticket)}
    assert tickets == {run.id for run in runs.values() if run.state is RunState.READY}
    markers = {marker.worker.id: marker for marker in records if isinstance(marker, Marker)}
    idle = {worker.id: worker for worker in workers.values() if worker.state is WorkerState.IDLE}
    assert {name: marker.worker for name, marker in markers.items()} == idle
    assert all(
        marker.key == keys.marker(world.pool.id, idle[name].marker or "", name) for name, marker in markers.items()
    )
    _check_reserved(world)


def _check_run(run: Run, workers: dict[str, Worker]) -> None:
    if run.state in HELD:
        worker = workers.get(run.worker or "")
        assert worker, f"run {run.id} is held by nobody known"
        assert (worker.state, worker.run, worker.attempt) == (WorkerState.BUSY, run.id, run.attempt)
        assert worker.session == run.session
        assert run.due_at, f"run {run.id} is held and has no deadline"
    if run.state is RunState.RUNNING:
        assert run.begun_at
    if run.is_final:
        assert run.ended_at
        assert run.expires_at
        assert not run.ending


def _check_worker(worker: Worker, runs: dict[str, Run]) -> None:
    if worker.state is WorkerState.BUSY:
        run = runs[worker.run or ""]
        assert run.state in HELD
        assert (run.worker, run.attempt) == (worker.id, worker.attempt)
    else:
        assert (worker.run, worker.attempt) == (None, None)
    if worker.state in (WorkerState.ASKED, WorkerState.LEAVING):
        assert worker.due_at, f"{worker.state} without a deadline"
    if worker.state is WorkerState.GONE:
        assert worker.expires_at
    else:
        assert not worker.expires_at


def _check_reserved(world: World) -> None:
    records = world.table.records()
    launches = [launch for launch in records if isinstance(launch, Launch)]
    counters = next(found for found in records if isinstance(found, Counters))
    pool = next(found for found in records if isinstance(found, Pool))
    assert counters.workers_reserved == sum(max(0, launch.count - len(launch.stopped)) for launch in launches)
    assert counters.workers_reserved <= pool.settings.max_workers
    for launch in launches:
        assert launch.is_over or launch.due_at or not launch.starting, "tasks on their way and no deadline"
