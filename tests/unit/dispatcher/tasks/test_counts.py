"""The places of a pool's tasks: counted by many at once, given back only when they are free, and counted again."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import pytest
from quaymaster.adapters.memory.store import MemoryStore
from quaymaster.dispatcher.workers.task_events import TaskStopped, task_stopped
from quaymaster.domain import ids
from quaymaster.domain.pool import Launch, PoolKind
from quaymaster.domain.states import RunState
from quaymaster.domain.worker import WorkerState
from quaymaster.errors import NoCapacity, QuaymasterError, Refused, Unavailable
from quaymaster.ports import Count, Replace, Store

from tests.shared.memory.agents import FINISHED, FakeAgent, agent, settle_down, unheard
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World

MANY = 200


class InStep:
    """A store that lets nobody commit before everybody wants to: whoever can lose to another does."""

    def __init__(self, store: MemoryStore, handlers: int) -> None:
        self._store = store
        self._handlers = handlers
        self._waiting = 0
        self._round = 0
        self._changed = threading.Condition()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, *writes: Any) -> None:
        with self._changed:
            self._waiting += 1
            mine = self._round
            self._begin_if_all_are_here()
            self._changed.wait_for(lambda: self._round > mine, timeout=60)
        self._store.commit(*writes)

    def leave(self) -> None:
        """One handler is done."""
        with self._changed:
            self._handlers -= 1
            self._begin_if_all_are_here()

    def _begin_if_all_are_here(self) -> None:
        if self._waiting and self._waiting >= self._handlers:
            self._waiting, self._round = 0, self._round + 1
            self._changed.notify_all()


@pytest.mark.parametrize("joined", [False, True], ids=["before they joined", "at work"])
def test_two_hundred_tasks_that_stop_at_once_are_all_counted(joined: bool):
    world = World(PoolKind.FARGATE, warm=MANY, max_workers=MANY)
    for _ in range(5):
        world.sweep()
    tasks = world.tasks.running
    assert (len(tasks), world.reserved()) == (MANY, MANY)
    if joined:
        for task in tasks:
            agent(world, ids.task_id(task.arn), launch=task.launch_id).register()
    store = InStep(world.table, MANY)
    ports = replace(world.ports, store=cast("Store", store))

    def stop(number: int) -> None:
        task = tasks[number]
        try:
            stopped = TaskStopped(pool_id=world.pool.id, launch_id=task.launch_id, task_arn=task.arn)
            task_stopped(ports, world.pools, stopped)
        finally:
            store.leave()

    with ThreadPoolExecutor(MANY) as threads:
        list(threads.map(stop, range(MANY)))
    assert world.reserved() == 0
    assert world.table.launches(world.pool.id) == []
    for task in tasks:
        world.tasks.end(task.arn, "stopped")
    check(world)


# What is given back.


def lose_the_answer(world: World) -> None:
    """The next call starts its tasks, and nobody hears of it."""
    world.tasks.error, world.tasks.answer_lost = Unavailable("ecs", "no answer"), True


@pytest.mark.parametrize(
    "error",
    [Refused("task", "a role that is gone", "roles that exist"), NoCapacity("ecs", "Capacity is unavailable")],
    ids=["refused", "no capacity"],
)
def test_a_refused_repeat_keeps_the_place_of_the_task_that_the_first_call_started(error: QuaymasterError):
    world = World(PoolKind.FARGATE, max_workers=2)
    for name in ("r1", "r2"):
        lose_the_answer(world)
        world.submit(name)
    world.tasks.answer_lost = False
    world.submit("r3")
    assert (len(world.tasks.running), world.reserved()) == (2, 2)
    for _ in range(3):
        world.tasks.error = error
        world.sweep(after=61)
        assert len(world.tasks.running) <= 2
        check(world)
    assert world.reserved() == 2
    arns = {arn for launch in world.table.launches(world.pool.id) for arn in launch.tasks}
    assert arns == {task.arn for task in world.tasks.running}


def test_a_task_that_no_answer_ever_named_gives_its_place_back_when_its_end_is_unheard():
    world = World(PoolKind.FARGATE)
    lose_the_answer(world)
    world.submit()
    world.tasks.answer_lost = False
    (launch,) = world.table.launches(world.pool.id)
    (task,) = world.tasks.running
    one = agent(world, ids.task_id(task.arn), launch=launch.id)
    one.register()
    settle_down(world, one)
    # No event says that it is gone, and the repeated call starts nothing.
    world.tasks.end(task.arn, "the host is gone")
    world.tasks.error = NoCapacity("ecs", "Capacity is unavailable")
    for _ in range(90):
        world.sweep(after=61)
    assert world.run("r1").is_final
    assert (world.reserved(), world.table.launch(world.pool.id, launch.id)) == (0, None)
    check(world)


def test_nothing_is_given_back_while_ecs_cannot_be_asked_what_was_started():
    world = World(PoolKind.FARGATE, max_workers=1)
    lose_the_answer(world)
    world.submit()
    world.tasks.answer_lost = False
    of_launch = world.tasks.of_launch

    def down(launch: Launch) -> list[str]:
        raise Unavailable("ecs", "no answer")

    world.tasks.error = NoCapacity("ecs", "Capacity is unavailable")
    world.tasks.of_launch = down
    world.sweep(after=61)
    assert (world.reserved(), len(world.tasks.running)) == (1, 1)
    (launch,) = world.table.launches(world.pool.id)
    # Both are said: what ECS refused, and why nobody knows what became of it.
    assert "Capacity is unavailable" in (launch.note or "")
    assert "no answer" in (launch.note or "")
    world.tasks.of_launch = of_launch
    for _ in range(4):
        world.sweep(after=61)
    assert (world.reserved(), len(world.tasks.running)) == (1, 1)
    check(world)


# What is counted again.


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_count_that_is_wrong_is_corrected_by_the_sweep(wrong: int):
    world = World(PoolKind.FARGATE)
    world.submit()
    assert world.reserved() == 1
    world.table.commit(Count(world.pool.id, wrong))
    world.sweep(after=1)
    assert world.reserved() == 1
    assert world.counted("places_recounted") == 1
    world.sweep(after=1)
    assert world.counted("places_recounted") == 1


def test_a_count_that_moves_meanwhile_is_not_corrected():
    world = World(PoolKind.FARGATE)
    world.submit()
    world.table.commit(Count(world.pool.id, 3))
    reads = list[str]()

    def moving(name: str) -> None:
        reads.append(name)
        if reads[-2:] == ["counters", "launches"]:
            world.table.commit(Count(world.pool.id, 0))

    world.store.before = moving
    world.sweep(after=1)
    world.store.before = lambda name: None
    assert (world.reserved(), world.counted("places_recounted")) == (4, 0)
    world.sweep(after=1)
    assert world.reserved() == 1


# Tasks that have had their runs.


def working(world: World, name: str = "r1") -> FakeAgent:
    """The agent of the one task, with the run begun."""
    world.submit(name)
    (task,) = world.tasks.running
    one = agent(world, ids.task_id(task.arn), launch=task.launch_id)
    one.register()
    settle_down(world, one)
    assert world.run(name).state is RunState.RUNNING
    return one


def ends_unheard(world: World, one: FakeAgent) -> Callable[[], None]:
    """Its run ends, and its report reaches nobody; the agent's line is back when what is returned is called."""
    publish = one.publish
    one.publish = unheard
    one.finish(FINISHED)

    def back() -> None:
        one.publish = publish
        world.messenger.take()

    return back


def silent(world: World, one: FakeAgent) -> None:
    """Its connection is lost, for longer than any lease."""
    world.disconnect(one.worker_id)
    world.messenger.take()
    world.silence(after=400)


def overdue(world: World, one: FakeAgent) -> None:
    """It stays connected, and the run's timeouts pass."""
    for _ in range(12):
        world.sweep(after=61)
        world.messenger.take()


@pytest.mark.parametrize("ending", [silent, overdue])
def test_a_task_whose_last_report_never_came_gets_no_other_run(ending: Callable[[World, FakeAgent], None]):
    world = World(PoolKind.FARGATE)
    one = working(world)
    back = ends_unheard(world, one)
    ending(world, one)
    assert world.run("r1").state is RunState.FINISHED
    back()
    world.tasks.capacity = len(world.tasks.running)
    world.submit("next")
    one.register()
    settle_down(world, one)
    assert one.begun == [(world.run("r1").id, 1)]
    assert world.worker(one.worker_id).state in (WorkerState.LEAVING, WorkerState.GONE)
    assert world.tasks.running == []


def unstoppable(task_arn: str, reason: str) -> None:
    """ECS takes the word, and the task stays."""


def test_a_task_that_leaves_and_says_nothing_more_gets_no_other_run():
    world = World(PoolKind.FARGATE)
    one = working(world)
    stop, world.tasks.stop = world.tasks.stop, unstoppable
    one.finish()
    settle_down(world, one)
    assert world.worker(one.worker_id).state is WorkerState.LEAVING
    world.submit("next")
    for _ in range(7):
        world.sweep(after=61)
    assert (world.worker(one.worker_id).state, world.worker(one.worker_id).left) == (WorkerState.GONE, True)
    world.messenger.take()
    one.register()
    settle_down(world, one)
    assert world.worker(one.worker_id).state is WorkerState.GONE
    # Nor as another session of the same task.
    two = agent(world, ids.worker_name(one.worker_id), session=2, launch=one.launch)
    two.register()
    assert world.worker(one.worker_id).state is WorkerState.LEAVING
    world.tasks.stop = stop
    world.sweep(after=61)
    assert all(ids.task_id(task.arn) != ids.worker_name(one.worker_id) for task in world.tasks.running)
    assert two.begun == []


def test_a_task_that_has_left_and_stopped_untold_is_forgotten_within_a_sweep():
    world = World(PoolKind.FARGATE)
    one = working(world)
    one.finish()
    settle_down(world, one)
    assert (world.worker(one.worker_id).state, world.tasks.running) == (WorkerState.LEAVING, [])
    world.sweep(after=30)
    # Its event may still be on its way.
    assert world.reserved() == 1
    world.sweep(after=61)
    assert (world.table.worker(world.pool.id, one.worker_id), world.reserved()) == (None, 0)
    check(world)


def test_the_correction_needs_the_count_as_it_was_read():
    world = World(PoolKind.FARGATE)
    counters = world.table.counters(world.pool.id)
    assert counters
    world.table.commit(Count(world.pool.id, 1))
    with pytest.raises(QuaymasterError):
        world.table.commit(Replace(counters.counted(0)))
