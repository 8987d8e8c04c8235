"""Workers that are kept ready, and tasks on Spot with a way back to what is always there."""

from datetime import timedelta
from typing import Any

import pytest
from quaymaster.dispatcher.users.pool_settings import read_pool_settings, write_pool_settings
from quaymaster.dispatcher.users.why import explain_run
from quaymaster.domain.ids import task_id
from quaymaster.domain.messages import Outcome
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.run import Run, read_history
from quaymaster.domain.spot import Capacity, Drought
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


DEMAND, SPOT, EITHER = Capacity.ON_DEMAND, Capacity.SPOT, Capacity.SPOT_THEN_ON_DEMAND


@pytest.mark.parametrize(
    ("capacity", "read_only", "expected"),
    [
        (DEMAND, None, [False, False]),
        (DEMAND, EITHER, [False, True]),
        (DEMAND, SPOT, [False, True]),
        (EITHER, None, [True, True]),
        (SPOT, None, [True, True]),
        (SPOT, DEMAND, [True, False]),
    ],
)
def test_which_tasks_are_started_on_spot_goes_by_the_pool_and_the_class_of_run(
    capacity: Capacity, read_only: Capacity | None, expected: list[bool]
):
    world = fargate(capacity=capacity, read_only_capacity=read_only)
    world.submit("r1", type="tracked")
    world.submit("r2", type="proposed")
    assert on_spot(world) == expected
    check(world)


def test_a_batch_of_both_classes_is_started_in_two_calls():
    world = fargate(read_only_capacity=EITHER)
    kinds = ["drift", "task", "proposed", "tracked"]
    bodies = [
        {"schema": 1, "id": f"r{n}", "pool": world.pool.name, "command": ["true"], "type": kind}
        for n, kind in enumerate(kinds)
    ]
    world.request(*bodies)
    assert sorted(on_spot(world)) == [False, False, True, True]
    assert world.tasks.calls == 2


def drought(world: World) -> Drought | None:
    starts = world.table.starts(world.pool.id)
    assert starts
    assert starts.trouble is None
    return starts.drought


@pytest.mark.parametrize("spot_capacity", [0, 1])
def test_where_spot_is_dry_tasks_start_on_demand_at_once_and_on_spot_again_later(spot_capacity: int):
    world = fargate(capacity=EITHER)
    world.tasks.spot_capacity = spot_capacity
    bodies = [{"schema": 1, "id": f"r{n}", "pool": world.pool.name, "command": ["true"]} for n in range(3)]
    world.request(*bodies)
    assert sorted(on_spot(world)) == [False] * (3 - spot_capacity) + [True] * spot_capacity
    assert drought(world)
    check(world)
    world.tasks.spot_capacity = 10
    world.submit("next")
    assert not world.tasks.running[-1].spot
    world.wait(15 * 60)
    world.submit("last")
    assert world.tasks.running[-1].spot
    assert drought(world) is None


def test_a_pool_of_spot_alone_waits_for_it_and_says_so_and_starts_nothing_on_demand():
    world = fargate(capacity=SPOT)
    world.tasks.spot_capacity = 0
    world.submit()
    asked: list[int] = []
    for _ in range(4 * 60):
        world.sweep(after=60)
        asked.append(world.tasks.calls)
    dry = drought(world)
    assert dry
    assert (world.tasks.running, dry.times) == ([], world.tasks.calls)
    # Soon at first, then once in a quarter of an hour.
    assert asked[10] >= 4
    assert 14 <= asked[-1] <= 28
    text = explain_run(world.ports, world.run("r1"))
    assert f"waits for Fargate Spot, which had nothing to give {dry.times} times since " in text
    assert f"(ECS said: {dry.note})" in text
    shown = world.shown().spot
    assert shown
    assert (shown.times, shown.since, shown.last_at, shown.note) == (dry.times, dry.since, dry.last_at, dry.note)
    assert world.run("r1").state is RunState.READY
    world.tasks.spot_capacity = 1
    for _ in range(16):
        world.sweep(after=60)
    assert on_spot(world) == [True]
    assert drought(world) is None
    check(world)


def test_what_waits_for_spot_takes_no_place_from_what_does_not():
    world = fargate(capacity=SPOT, read_only_capacity=DEMAND, max_workers=2)
    world.tasks.spot_capacity = 0
    for number in range(3):
        world.submit(f"w{number}", type="tracked")
    world.submit("r1", type="proposed")
    world.submit("r2", type="drift")
    assert on_spot(world) == [False, False]
    check(world)


def test_spot_is_waited_for_as_long_as_the_pool_says_and_then_no_longer():
    world = fargate(capacity=EITHER, spot_patience=timedelta(minutes=5))
    world.tasks.spot_capacity = 0
    world.submit()
    for _ in range(4):
        world.sweep(after=60)
        assert world.tasks.running == []
    assert " on tasks start on demand" in explain_run(world.ports, world.run("r1"))
    for _ in range(2):
        world.sweep(after=60)
    assert on_spot(world) == [False]
    world.submit("r2")
    assert on_spot(world) == [False, False]
    check(world)


def test_a_drought_that_nobody_met_for_long_begins_anew():
    world = fargate(capacity=EITHER, spot_patience=timedelta(minutes=5))
    world.tasks.spot_capacity = 0
    world.submit()
    first = drought(world)
    world.wait(3 * 3600)
    world.submit("r2")
    second = drought(world)
    assert first
    assert second
    assert (second.times, second.since) == (1, world.now)


def test_a_spot_call_that_ecs_has_no_capacity_for_is_made_on_demand():
    world = fargate(capacity=EITHER)
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
    world = fargate(capacity=EITHER)
    world.submit(retryable=retryable)
    join(world)
    assert world.run("r1").state is RunState.RUNNING
    world.stop_task(world.tasks.running[0].arn, stop_code="SpotInterruption")
    assert (world.run("r1").state, world.run("r1").reason) == (state, reason)
    check(world)


INTERRUPTED = Outcome(end="FAILED", reason=Reason.INTERRUPTED)


@pytest.mark.parametrize("heard", [True, False])
def test_a_retryable_run_whose_worker_closed_its_log_as_interrupted_runs_again(heard: bool):
    world = fargate(capacity=EITHER)
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


def interrupted_on_spot(*order: str, heard: bool = True) -> Run:
    """A run on Spot, with what is told of its interruption in this order."""
    world = fargate(capacity=EITHER)
    world.submit()
    (one,) = join(world)
    (task,) = world.tasks.running
    if not heard:
        one.publish = unheard
    for word in order:
        match word:
            case "notice":
                world.take_back(task.arn)
            case "report":
                one.leaving = True
                one.finish(INTERRUPTED)
            case _:
                world.stop_task(task.arn, stop_code="SpotInterruption")
        check(world)
    return world.run("r1")


@pytest.mark.parametrize(
    "order",
    [
        ("notice", "report", "stopped"),
        ("report", "notice", "stopped"),
        ("report", "stopped", "notice"),
        ("report", "stopped"),
        ("notice", "stopped", "report"),
        ("stopped", "report"),
        ("notice", "notice", "report", "report", "stopped", "stopped"),
        ("report", "notice", "notice", "report", "stopped", "report"),
    ],
)
def test_an_interruption_is_told_truthfully_whoever_tells_of_it_first(order: tuple[str, ...]):
    run = interrupted_on_spot(*order)
    assert (run.state, run.reason) == (RunState.FAILED, Reason.SPOT_INTERRUPTED)
    last = read_history(run)[-1]
    assert last.state is RunState.FAILED
    # In our word, or, where its event came first, in that of ECS.
    assert last.note in (Reason.SPOT_INTERRUPTED, "SpotInterruption")
    assert len([change for change in read_history(run) if change.state is RunState.FAILED]) == 1


def test_an_end_marker_that_says_interrupted_is_explained_by_ecs_too():
    run = interrupted_on_spot("report", "stopped", heard=False)
    assert (run.state, run.reason) == (RunState.FAILED, Reason.SPOT_INTERRUPTED)


def test_without_a_word_of_ecs_a_run_that_is_not_retryable_ends_as_interrupted():
    run = interrupted_on_spot("report")
    assert (run.state, run.reason) == (RunState.FAILED, Reason.INTERRUPTED)


@pytest.mark.parametrize(
    "outcome", [Outcome(end="FINISHED", exit_code=0), Outcome(end="FAILED", exit_code=3, reason=Reason.EXIT_CODE)]
)
def test_a_run_that_ended_by_itself_in_its_two_minutes_ends_as_it_did(outcome: Outcome):
    world = fargate(capacity=EITHER)
    world.submit()
    (one,) = join(world)
    (task,) = world.tasks.running
    world.take_back(task.arn)
    one.leaving = True
    one.finish(outcome)
    world.stop_task(task.arn, stop_code="SpotInterruption")
    assert (world.run("r1").state, world.run("r1").reason) == (RunState(outcome.end), outcome.reason)
    check(world)


def test_an_idle_worker_whose_capacity_is_taken_back_gets_no_more_runs():
    world = fargate(capacity=EITHER, warm=1)
    world.sweep()
    (one,) = join(world)
    (task,) = world.tasks.running
    world.take_back(task.arn)
    world.take_back(task.arn)
    assert world.worker(one.worker_id).state is WorkerState.LEAVING
    assert world.submit().state is RunState.READY
    check(world)
    world.stop_task(task.arn, stop_code="SpotInterruption")
    begun = [attempt for two in join(world) for attempt in two.begun]
    assert begun == [(world.run("r1").id, 1)]
    check(world)


def test_a_notice_of_a_task_that_nobody_knows_changes_nothing():
    world = fargate(capacity=EITHER)
    world.submit()
    before = world.table.records()
    world.take_back(world.tasks.running[0].arn)
    assert world.table.records() == before


def test_settings_of_spot_and_warm_are_read_written_and_checked():
    given = {"capacity": "spot_then_on_demand", "read_only_capacity": "spot", "spot_patience": "10m", "warm": 0}
    settings = read_pool_settings({**given, "max_workers": 4})
    assert (settings.capacity, settings.read_only_capacity, settings.warm) == (EITHER, SPOT, 0)
    assert {name: write_pool_settings(settings)[name] for name in given} == given
    assert "read_only_capacity" not in write_pool_settings(read_pool_settings({}))
    for wrong in (
        {"capacity": "sometimes"},
        {"capacity": 1},
        {"read_only_capacity": "never"},
        {"spot_patience": "5m"},
        {"capacity": "spot", "spot_patience": "5m"},
        {"capacity": "spot_then_on_demand", "spot_patience": "25h"},
        {"warm": -1},
        {"warm": 11},
        {"max_workers": 0},
    ):
        with pytest.raises(Refused):
            read_pool_settings(wrong)
