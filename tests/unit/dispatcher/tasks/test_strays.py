"""Tasks that run although no launch has a place for them: one sweep stops them, and no others."""

from dataclasses import replace

from quaymaster.domain import ids
from quaymaster.domain.pool import Launch, PoolKind
from quaymaster.domain.states import RunState
from quaymaster.errors import NoCapacity
from quaymaster.ports import Delete, Replace

from tests.shared.memory.agents import agent, settle_down
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World


def running(world: World) -> list[str]:
    return [task.arn for task in world.tasks.running]


def forget_launches(world: World) -> None:
    """Nobody knows any more what was started."""
    for launch in world.table.launches(world.pool.id):
        world.table.commit(Delete(launch))


def with_task(**settings: int) -> tuple[World, str]:
    """A pool whose one task is on its way, for a run that waits."""
    world = World(PoolKind.FARGATE, max_workers=2, **settings)
    world.submit("r1")
    (arn,) = running(world)
    return world, arn


def start(world: World, started_by: str, definition: str) -> None:
    """A task that the table has never heard of."""
    unknown = Launch(id=started_by, pool_id="", count=1, task_definition=definition, created_at=world.now)
    world.tasks.run(unknown, world.pool)


def the_launch(world: World) -> Launch:
    (launch,) = world.table.launches(world.pool.id)
    return launch


def test_a_task_whose_launch_is_forgotten_is_stopped_in_one_sweep_and_another_takes_the_run():
    world, arn = with_task()
    forget_launches(world)
    world.sweep(after=1)
    assert arn not in running(world)
    assert world.tasks.tasks[arn].stopped == "quaymaster: no launch has a place for it"
    assert world.counted("stray_stopped") == 1
    (other,) = running(world)
    one = agent(world, ids.task_id(other), launch=world.tasks.tasks[other].launch_id)
    one.register()
    settle_down(world, one)
    assert one.begun == [(world.run("r1").id, 1)]
    world.sweep(after=60)
    assert running(world) == [other]
    check(world)


def test_one_whose_place_was_given_back_becomes_no_worker_and_is_stopped():
    world = World(PoolKind.FARGATE, max_workers=2)
    world.request(*({"schema": 1, "id": name, "pool": world.pool.name, "command": ["true"]} for name in ("a", "b")))
    first, second = running(world)
    launch = the_launch(world)
    # As if the answer had named one of the two.
    world.table.commit(Replace(replace(launch, version=launch.version + 1, count=1, tasks=(first,))))
    late = agent(world, ids.task_id(second), launch=launch.id)
    late.register()
    assert late.begun == []
    assert world.table.worker(world.pool.id, late.worker_id) is None
    world.sweep(after=1)
    assert second not in running(world)
    assert first in running(world)


def test_one_that_was_counted_as_stopped_and_runs_on_is_stopped():
    world = World(PoolKind.FARGATE, max_workers=2)
    world.request(*({"schema": 1, "id": name, "pool": world.pool.name, "command": ["true"]} for name in ("a", "b")))
    first, second = running(world)
    launch = the_launch(world)
    stopped = (ids.task_id(second),)
    world.table.commit(Replace(replace(launch, version=launch.version + 1, stopped=stopped)))
    world.sweep(after=1)
    assert second not in running(world)
    assert first in running(world)


def test_a_task_whose_call_is_not_answered_yet_is_left_alone():
    world, arn = with_task()
    launch = the_launch(world)
    unanswered = replace(launch, version=launch.version + 1, answered=False, answered_at=None, tasks=())
    world.table.commit(Replace(unanswered))
    world.sweep(after=1)
    assert arn in running(world)


def test_a_task_that_is_started_while_the_sweep_looks_is_left_alone():
    world = World(PoolKind.FARGATE, max_workers=2)
    asked = world.tasks.of_pool

    def meanwhile(pool_id: str) -> list[str]:
        # The list is behind, and shows at once what it will show: the launch is read after it.
        world.submit("r1")
        return asked(pool_id)

    world.tasks.of_pool = meanwhile  # type: ignore[method-assign]
    world.sweep(after=1)
    assert len(running(world)) == 1
    assert world.counted("stray_stopped") == 0


def test_a_worker_at_work_is_left_alone_whatever_became_of_its_launch():
    world, arn = with_task()
    one = agent(world, ids.task_id(arn), launch=world.tasks.tasks[arn].launch_id)
    one.register()
    settle_down(world, one)
    forget_launches(world)
    world.sweep(after=1)
    assert arn in running(world)
    one.finish()
    assert world.run("r1").state is RunState.FINISHED
    world.sweep(after=60)
    assert arn not in running(world)


def test_a_task_that_somebody_started_by_hand_is_left_alone():
    world = World(PoolKind.FARGATE)
    start(world, "ecs-console", world.pool.task_definition or "")
    world.sweep(after=1)
    assert len(running(world)) == 1


def test_tasks_of_another_pool_are_not_looked_at():
    world = World(PoolKind.FARGATE)
    family = (world.pool.task_definition or "").replace(world.pool.id, ids.ulid(world.now, b"otherpools"))
    start(world, ids.ulid(world.now, b"forgotten!"), family)
    world.sweep(after=1)
    assert len(running(world)) == 1


def test_a_task_that_a_refused_call_had_started_after_all_is_stopped():
    world = World(PoolKind.FARGATE, max_workers=2)
    listed, world.tasks.of_launch = world.tasks.of_launch, lambda launch: []  # type: ignore[method-assign]
    world.tasks.error, world.tasks.answer_lost = NoCapacity("ecs", "Capacity is unavailable at this time"), True
    world.submit("r1")
    world.tasks.of_launch, world.tasks.answer_lost = listed, False  # type: ignore[method-assign]
    (stray,) = running(world)
    assert (world.table.launches(world.pool.id), world.reserved()) == ([], 0)
    world.sweep(after=60)
    assert stray not in running(world)
    assert len(running(world)) == world.reserved() == 1
    check(world)


def test_a_sweep_asks_once_where_nothing_is_unknown():
    world, _ = with_task()
    world.tasks.asked.clear()
    world.sweep(after=1)
    assert world.tasks.asked["of_pool"] == 1
    assert world.tasks.asked["started_by"] == 0
