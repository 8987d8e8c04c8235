"""AWS calls and write units of a dispatch and of a run's whole life, counted on the shipped functions."""

from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.workers.task_events import TaskStopped, task_stopped
from quaymaster.domain import keys
from quaymaster.domain.ids import run_id, task_id, worker_id
from quaymaster.domain.pool import PoolKind

from bench.deployed import Functions, functions
from bench.figures import Figures, counted
from tests.shared.memory.records import POOL

WORKERS = [worker_id("quaymaster", POOL, f"01ARZ3NDEKTSV4RRFFQ69G5F{n:02}") for n in range(12)]


def count_calls() -> Figures:
    """The figures that are budgets."""
    with functions() as deployed:
        for worker in WORKERS:
            deployed.event(worker, "registered")
        _request(deployed, "warm-up")
        _finish(deployed, "warm-up")
        deployed.meter.reset()
        _request(deployed, "one")
        warm = deployed.meter.calls.total()
        _finish(deployed, "one")
        life = deployed.meter.units
        deployed.meter.reset()
        deployed.request(*(_body(f"burst-{n}") for n in range(10)))
        burst = deployed.meter.calls.total() / 10
    return {
        "aws_calls_per_warm_dispatch": counted(warm),
        "aws_calls_per_run_in_burst_of_10": counted(burst),
        "wru_per_run_life": counted(life),
        "wru_per_run_life_by_ticket": counted(_by_ticket()),
        **_fargate(),
    }


def _fargate() -> Figures:
    """A run with a task of its own, from its request to the event of its task's end."""
    with functions(PoolKind.FARGATE, task_definition="quaymaster-pool:1") as deployed:
        deployed.meter.reset()
        _request(deployed, "cold")
        with deployed.meter.unseen():
            (launch,) = deployed.ports.store.launches(POOL)
        (task,) = launch.tasks
        deployed.event(worker_id("quaymaster", POOL, task_id(task)), "registered", launch=launch.id)
        _finish(deployed, "cold")
        stopped = TaskStopped(pool_id=POOL, launch_id=launch.id, task_arn=task)
        task_stopped(deployed.ports, Pools(deployed.ports.store, deployed.ports.clock), stopped)
        return {
            "wru_per_run_life_fargate": counted(deployed.meter.units),
            "aws_calls_per_run_life_fargate": counted(deployed.meter.calls.total() + deployed.tasks.asked.total()),
        }


def _by_ticket() -> float:
    with functions() as deployed:
        deployed.event(WORKERS[0], "registered")
        _request(deployed, "first")
        deployed.meter.reset()
        _request(deployed, "second")
        ticket = deployed.meter.units
        _begin(deployed, "first")
        deployed.meter.reset()
        _end(deployed, "first")
        # What is written of the first run itself, its item and its places in the indexes, is of its own life.
        take = deployed.meter.units - deployed.meter.units_of(keys.run(run_id(POOL, "first")).pk)
        deployed.meter.reset()
        _finish(deployed, "second")
        return ticket + take + deployed.meter.units


def _body(request: str) -> dict[str, object]:
    return {"schema": 1, "id": request, "pool": POOL, "command": ["true"]}


def _request(deployed: Functions, request: str) -> None:
    deployed.request(_body(request))


def _held(deployed: Functions, request: str) -> tuple[str, dict[str, object]]:
    with deployed.meter.unseen():
        run = deployed.ports.store.run(run_id(POOL, request))
    if not run or not run.worker:
        raise RuntimeError(f"{request} has no worker: {run}")
    return run.worker, {"run": run.id, "attempt": run.attempt}


def _begin(deployed: Functions, request: str) -> None:
    worker, about = _held(deployed, request)
    deployed.event(worker, "prepared", **about)


def _end(deployed: Functions, request: str) -> None:
    worker, about = _held(deployed, request)
    log = {"lines": 3, "bytes": 200, "sha256": "a" * 64}
    deployed.event(worker, "phase_finished", **about, outcome={"end": "FINISHED", "exit_code": 0}, log=log)


def _finish(deployed: Functions, request: str) -> None:
    _begin(deployed, request)
    _end(deployed, request)
