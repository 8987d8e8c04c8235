"""A task that comes up takes a run as it joins, in one transaction, and its launch is followed by its pool's sweep."""

from quaymaster.domain import ids
from quaymaster.domain.deadlines import TASK_RETENTION
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.states import RunState
from quaymaster.domain.worker import WorkerState
from quaymaster.errors import Unavailable

from tests.shared.memory.agents import FakeAgent, agent, settle_down
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World


def with_tasks(runs: int) -> tuple[World, list[FakeAgent]]:
    world = World(PoolKind.FARGATE)
    for number in range(runs):
        world.submit(f"r{number}")
        world.wait(1)
    tasks = world.tasks.running
    return world, [agent(world, ids.task_id(task.arn), launch=task.launch_id) for task in tasks]


def test_a_task_takes_the_oldest_run_in_the_transaction_in_which_it_joins():
    world, (one, _) = with_tasks(2)
    before = world.store.calls["commit"]
    one.register()
    assert world.store.calls["commit"] == before + 1
    assert world.run("r0").state is RunState.PREPARING
    assert world.worker(one.worker_id).state is WorkerState.BUSY
    check(world)


def test_two_tasks_that_join_at_once_take_one_run_each():
    world, (one, two) = with_tasks(2)

    def meet(name: str) -> None:
        if name == "commit":
            world.store.before = lambda call: None
            two.register()

    world.store.before = meet
    one.register()
    settle_down(world, one, two)
    assert [world.run(name).state for name in ("r0", "r1")] == [RunState.RUNNING] * 2
    check(world)


def test_a_task_that_finds_no_run_is_idle():
    world, (one,) = with_tasks(1)
    other = agent(world, "helper")
    other.register()
    settle_down(world, other)
    one.register()
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    check(world)


def test_what_the_agent_of_a_task_said_expires_by_itself():
    world, (one,) = with_tasks(1)
    one.register()
    described = world.table.agent(world.pool.id, one.worker_id)
    assert described
    assert described.expires_at
    assert described.expires_at - world.now >= TASK_RETENTION
    world.stop_task(world.tasks.running[0].arn)
    assert world.table.agent(world.pool.id, one.worker_id) == described


def test_a_launch_that_cannot_be_followed_is_pushed_and_does_not_keep_others_from_it():
    world, _ = with_tasks(2)
    world.wait(301)
    gone = {task.arn for task in world.tasks.running}
    for task in world.tasks.running:
        world.tasks.end(task.arn, "nobody heard of it")
    down = [True]
    of_launch = world.tasks.of_launch

    def fails_once(launch: object) -> list[str]:
        if down.pop() if down else False:
            raise Unavailable("ecs", "once")
        return of_launch(launch)  # pyright: ignore[reportArgumentType]

    world.tasks.of_launch = fails_once
    world.sweep()
    assert world.counted("launch_not_followed") == 1
    assert gone.isdisjoint(task for launch in world.table.launches(world.pool.id)[1:] for task in launch.tasks)
    assert len(gone.intersection(t for launch in world.table.launches(world.pool.id) for t in launch.tasks)) == 1
    for _ in range(2):
        world.sweep(after=61)
        check(world)
    assert (len(world.tasks.running), world.reserved()) == (2, 2)
    check(world)
