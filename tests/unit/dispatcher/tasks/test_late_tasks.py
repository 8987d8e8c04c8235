"""Tasks whose worker comes up while the sweep decides that it never will."""

from collections.abc import Callable
from datetime import timedelta

from quaymaster.domain import ids
from quaymaster.domain.failure_table import LATE
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.states import RunState

from tests.shared.memory.agents import FakeAgent, agent, settle_down
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World


def with_one_task() -> tuple[World, FakeAgent]:
    """A pool whose one task is on its way, and its agent, which has not registered yet."""
    world = World(PoolKind.FARGATE)
    world.submit()
    (task,) = world.tasks.running
    return world, agent(world, ids.task_id(task.arn), launch=task.launch_id)


def test_a_worker_that_comes_while_the_pool_is_swept_keeps_its_task():
    world, one = with_one_task()
    # The first one follows what is due, the second one counts the tasks on their way, the third one looks for those
    # whose worker is gone.
    world.store.before = once(world, "launches", lambda: (one.register(), settle_down(world, one)), number=3)
    world.sweep(after=60)
    assert one.begun == [(world.run("r1").id, 1)]
    assert len(world.tasks.running) == 1
    check(world)


def test_a_task_that_comes_up_after_its_time_is_given_no_run():
    world, one = with_one_task()
    (task,) = world.tasks.running
    world.sweep(after=timedelta(minutes=15).total_seconds())
    assert world.tasks.tasks[task.arn].stopped == LATE
    one.register()
    settle_down(world, one)
    assert not one.welcomed
    assert world.run("r1").state is RunState.READY
    check(world)


def test_one_that_runs_and_never_registers_is_stopped_as_soon_as_it_is_sure_and_another_takes_the_run():
    world, one = with_one_task()
    (task,) = world.tasks.running
    world.wait(100)
    world.tasks.come_up(task.arn, world.now)
    world.sweep(after=119)
    assert world.tasks.running == [world.tasks.tasks[task.arn]]
    world.sweep(after=60)
    assert world.tasks.tasks[task.arn].stopped == LATE
    one.register()
    settle_down(world, one)
    assert not one.welcomed
    world.stop_task(task.arn, stopped_reason=LATE, stop_code="UserInitiated")
    for _ in range(3):
        world.sweep(after=60)
    (another,) = world.tasks.running
    assert another.arn != task.arn
    two = agent(world, ids.task_id(another.arn), launch=another.launch_id)
    two.register()
    settle_down(world, two)
    assert two.begun == [(world.run("r1").id, 1)]
    check(world)


def test_one_whose_image_takes_long_has_its_time():
    world, one = with_one_task()
    for _ in range(12):
        world.sweep(after=60)
    (task,) = world.tasks.running
    world.tasks.come_up(task.arn, world.now)
    world.sweep(after=60)
    one.register()
    settle_down(world, one)
    assert one.begun == [(world.run("r1").id, 1)]
    check(world)


def test_a_launch_that_is_young_is_not_asked_about():
    world, _ = with_one_task()
    world.sweep(after=60)
    assert world.tasks.asked["running_since"] == 0
    world.sweep(after=60)
    assert world.tasks.asked["running_since"] == 1


def test_a_worker_that_joins_while_its_late_task_is_about_to_be_stopped_loses_the_race():
    world, one = with_one_task()
    world.wait(timedelta(minutes=15).total_seconds() - 1)

    def join_late() -> None:
        # Its function read the launch in time, and commits only after the sweep has judged the task.
        world.store.before = once(world, "commit", lambda: world.sweep(after=2))
        one.register()

    join_late()
    settle_down(world, one)
    assert one.begun == []
    assert not one.welcomed
    check(world)


def once(world: World, call: str, what: Callable[[], object], number: int = 1) -> Callable[[str], None]:
    """Do something before one such call of the store, by its number, and never again."""
    left = [number]

    def before(name: str) -> None:
        left[0] -= name == call
        if left[0] == 0:
            world.store.before = lambda name: None
            what()

    return before
