"""Runs that wait for too long end, by what there was too little of."""

from datetime import timedelta

import pytest
from quaymaster.dispatcher.users.why import explain_run
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.spot import Capacity
from quaymaster.domain.states import Reason, RunState
from quaymaster.errors import NoCapacity

from tests.shared.memory.agents import joined, running
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World

HOUR = timedelta(hours=1)


def test_a_run_that_nobody_took_in_time_ends_and_no_moment_before() -> None:
    world = World(queue_timeout=HOUR)
    world.submit("r1")
    world.wait(1800)
    world.submit("r2")
    world.sweep(after=1799)
    assert world.run("r1").state is RunState.READY
    assert "; it ends in 1s unless a worker takes it" in explain_run(world.ports, world.run("r1"))
    world.sweep(after=1)
    found = world.run("r1")
    assert (found.state, found.reason, found.note) == (
        RunState.FAILED, Reason.QUEUE_EXPIRED, "it waited for a worker for 1h",
    )  # fmt: skip
    assert world.run("r2").state is RunState.READY
    (one,) = joined(world, "w1")
    assert one.begun == [(world.run("r2").id, 1)]
    check(world)


def test_a_run_that_is_at_work_has_waited_long_enough() -> None:
    world = World(queue_timeout=timedelta(minutes=5))
    running(world, "w1", "r1", log_timeout="1h", run_timeout="1h")
    world.sweep(after=600)
    assert world.run("r1").state is RunState.RUNNING


def test_nothing_is_said_of_an_end_that_is_far() -> None:
    world = World()
    world.submit("r1")
    assert "it ends in" not in explain_run(world.ports, world.run("r1"))


def test_where_aws_has_no_capacity_the_end_says_so() -> None:
    world = World(PoolKind.FARGATE, queue_timeout=HOUR)
    world.tasks.error = NoCapacity("ecs", "Capacity is unavailable at this time")
    world.submit("r1")
    for _ in range(61):
        world.tasks.error = NoCapacity("ecs", "Capacity is unavailable at this time")
        world.sweep(after=60)
    found = world.run("r1")
    assert (found.state, found.reason) == (RunState.FAILED, Reason.NO_CAPACITY)
    assert found.note
    assert "Capacity is unavailable at this time" in found.note
    check(world)


def test_where_spot_has_nothing_to_give_the_end_says_so() -> None:
    world = World(PoolKind.FARGATE, queue_timeout=HOUR, capacity=Capacity.SPOT)
    world.tasks.spot_capacity = 0
    world.submit("r1")
    for _ in range(61):
        world.sweep(after=60)
    found = world.run("r1")
    assert (found.state, found.reason) == (RunState.FAILED, Reason.NO_CAPACITY)
    assert found.note
    assert found.note.startswith("it waited for a worker for 1h; Fargate Spot had nothing to give, ")
    check(world)


@pytest.mark.parametrize("number", [1, 150])
def test_many_that_expire_at_once_all_end(number: int) -> None:
    world = World(queue_timeout=HOUR)
    for one in range(number):
        world.submit(f"r{one}")
    world.wait(3600)
    world.sweep()
    world.sweep(after=60)
    assert {world.run(f"r{one}").reason for one in range(number)} == {Reason.QUEUE_EXPIRED}
    check(world)
