"""Workers that are kept ready, and tasks on Spot with a way back to what is always there."""

from typing import Any

import pytest
from quaymaster.dispatcher.users.pool_settings import read_pool_settings, write_pool_settings
from quaymaster.domain.ids import task_id
from quaymaster.domain.messages import Outcome
from quaymaster.domain.pool import PoolKind, SpotUse
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import WorkerState
from quaymaster.errors import NoCapacity, Refused

from tests.shared.memory.agents import FakeAgent, agent, settle_down, unheard
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World


def fargate(**settings: Any) -> World:
    return World(PoolKind.FARGATE, **settings)


def join(world: World) -> list[FakeAgent]:
    """The agents of all tasks that run and have no worker yet, registered."""
    known = {worker.id for worker in world.table.workers(world.pool.id)}
    agents = [agent(world, task_id(task.arn), launch=task.launch_id) for task in world.tasks.running]
    new = [one for one in agents if one.worker_id not in known]
    for one in new:
        one.register()
    settle_down(world, *new)
    return new


def on_spot(world: World) -> list[bool]:
    return [task.spot for task in world.tasks.running]


def test_a_pool_keeps_warm_workers_and_a_run_finds_one_at_once():
    world = fargate(warm=2)
    world.sweep()
    world.sweep(after=60)
    assert (len(world.tasks.running), world.reserved()) == (2, 2)
    agents = join(world)
    world.sweep(after=3600)
    assert [world.worker(one.worker_id).state for one in agents] == [WorkerState.IDLE] * 2
    assert world.submit().state is RunState.PREPARING
    world.sweep(after=60)
    assert len(world.tasks.running) == 3
    check(world)


def test_idle_workers_beyond_the_warm_ones_leave():
    world = fargate(warm=1, runs_per_worker=9)
    world.submit("r1")
    world.submit("r2")
    agents = join(world)
    for one in agents:
        if one.held:
            one.finish()
            settle_down(world, one)
    world.sweep(after=600)
    states = sorted(world.worker(one.worker_id).state for one in agents)
    assert states == [WorkerState.IDLE, WorkerState.LEAVING, WorkerState.LEAVING]
    check(world)


def test_warm_workers_count_against_the_limit():
    world = fargate(warm=3, max_workers=3)
    world.sweep()
    for number in range(5):
        world.submit(f"r{number}")
    assert (len(world.tasks.running), world.reserved()) == (3, 3)
    check(world)


@pytest.mark.parametrize(
    ("use", "expected"),
    [(SpotUse.NEVER, [False, False]), (SpotUse.READ_ONLY, [False, True]), (SpotUse.ALWAYS, [True, True])],
)
def test_which_tasks_are_started_on_spot_goes_by_the_pool_and_the_class_of_run(use: SpotUse, expected: list[bool]):
    world = fargate(spot=use)
    world.submit("r1", type="tracked")
    world.submit("r2", type="proposed")
    assert on_spot(world) == expected
    check(world)


def test_a_batch_of_both_classes_is_started_in_two_calls():
    world = fargate(spot=SpotUse.READ_ONLY)
    kinds = ["drift", "task", "proposed", "tracked"]
    bodies = [
        {"schema": 1, "id": f"r{n}", "pool": world.pool.name, "command": ["true"], "type": kind}
        for n, kind in enumerate(kinds)
    ]
    world.request(*bodies)
    assert sorted(on_spot(world)) == [False, False, True, True]
    assert world.tasks.calls == 2


@pytest.mark.parametrize("spot_capacity", [0, 1])
def test_where_spot_is_dry_tasks_start_on_demand_at_once_and_on_spot_again_later(spot_capacity: int):
    world = fargate(spot=SpotUse.ALWAYS)
    world.tasks.spot_capacity = spot_capacity
    bodies = [{"schema": 1, "id": f"r{n}", "pool": world.pool.name, "command": ["true"]} for n in range(3)]
    world.request(*bodies)
    assert sorted(on_spot(world)) == [False] * (3 - spot_capacity) + [True] * spot_capacity
    starts = world.table.starts(world.pool.id)
    assert starts
    assert starts.trouble is None
    check(world)
    world.tasks.spot_capacity = 10
    world.submit("next")
    assert not world.tasks.running[-1].spot
    world.wait(15 * 60)
    world.submit("last")
    assert world.tasks.running[-1].spot


def test_a_spot_call_that_ecs_has_no_capacity_for_is_made_on_demand():
    world = fargate(spot=SpotUse.ALWAYS)
    world.tasks.error = NoCapacity("ecs", "Capacity is unavailable at this time")
    world.submit()
    assert on_spot(world) == [False]
    check(world)


@pytest.mark.parametrize(
    ("retryable", "state", "reason"),
    [(False, RunState.FAILED, Reason.SPOT_INTERRUPTED), (True, RunState.READY, None)],
)
def test_a_spot_interruption_ends_a_run_that_has_begun_unless_it_may_be_repeated(
    retryable: bool, state: RunState, reason: Reason | None
):
    world = fargate(spot=SpotUse.ALWAYS)
    world.submit(retryable=retryable)
    join(world)
    assert world.run("r1").state is RunState.RUNNING
    world.stop_task(world.tasks.running[0].arn, stop_code="SpotInterruption")
    assert (world.run("r1").state, world.run("r1").reason) == (state, reason)
    check(world)


INTERRUPTED = Outcome(end="FAILED", reason=Reason.INTERRUPTED)


@pytest.mark.parametrize("heard", [True, False])
def test_a_retryable_run_whose_worker_closed_its_log_as_interrupted_runs_again(heard: bool):
    world = fargate(spot=SpotUse.ALWAYS)
    world.submit(retryable=True)
    (one,) = join(world)
    (task,) = world.tasks.running
    if not heard:
        one.publish = unheard
    one.leaving = True
    one.finish(INTERRUPTED)
    world.stop_task(task.arn, stop_code="SpotInterruption")
    assert (world.run("r1").state, world.run("r1").losses) == (RunState.READY, 1)
    check(world)
    (two,) = join(world)
    assert two.begun == [(world.run("r1").id, 2)]
    check(world)


def test_a_run_that_is_not_retryable_ends_as_interrupted_when_its_worker_says_so():
    world = fargate(spot=SpotUse.ALWAYS)
    world.submit()
    (one,) = join(world)
    one.leaving = True
    one.finish(INTERRUPTED)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, Reason.INTERRUPTED)


def test_settings_of_spot_and_warm_are_read_written_and_checked():
    settings = read_pool_settings({"spot": "read-only", "warm": 0, "max_workers": 4})
    assert (settings.spot, settings.warm) == (SpotUse.READ_ONLY, 0)
    assert write_pool_settings(settings)["spot"] == "read-only"
    for wrong in ({"spot": "sometimes"}, {"spot": 1}, {"warm": -1}, {"warm": 11}, {"max_workers": 0}):
        with pytest.raises(Refused):
            read_pool_settings(wrong)
