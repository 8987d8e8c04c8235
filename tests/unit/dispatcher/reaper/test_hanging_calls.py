"""Calls that hang, and calls that a function dies of: they cost time, and nobody else's turn."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from quaymaster.dispatcher.lifetime import WORST_CALL
from quaymaster.dispatcher.reaper.tick import tick
from quaymaster.domain.pool import PoolEntry, PoolKind, PoolName
from quaymaster.domain.states import RunState
from quaymaster.domain.wakes import Wake, encode_wake
from quaymaster.errors import Unavailable
from quaymaster.ports import Create, QueueName

from tests.shared.memory.agents import joined, running, unheard
from tests.shared.memory.records import a_pool
from tests.shared.memory.world import Crash, World

MINUTE = 60
LIFE = timedelta(minutes=1)
"""How long the reaper's function lives."""


def hanging(world: World) -> Callable[..., Any]:
    """A call that times out after the longest time that the clients allow."""

    def hang(*_: object, **__: object) -> Any:
        world.wait(WORST_CALL.total_seconds())
        raise Unavailable("aws", "read timed out")

    return hang


def deadly(*_: object, **__: object) -> Any:
    raise Crash


def sweeps(world: World, number: int) -> None:
    """So many minutes; the function may die in any of them."""
    for _ in range(number):
        began = world.now
        try:
            tick(world.ports, world.pools, LIFE)
        except Crash:
            world.wait(1)
        assert world.now - began < LIFE
        world.wait(max(0.0, (began + LIFE - world.now).total_seconds()))


def silent_and_overrun(world: World) -> None:
    """Four runs on workers that tell nothing, one of them overrun for long; it is the last that is due."""
    for number in range(3):
        one = running(world, f"w{number}", f"silent{number}", log_timeout="2m", run_timeout="8h")
        one.publish = unheard
    last = running(world, "w9", "overrun", log_timeout="1h", run_timeout="7m")
    last.publish = unheard
    world.wait(20 * MINUTE)


@pytest.mark.parametrize("kind", ["hangs", "kills the function"])
def test_a_bucket_that_hangs_keeps_no_overrun_run_alive(kind: str):
    world = World()
    silent_and_overrun(world)
    blob_call = hanging(world) if kind == "hangs" else deadly
    world.blobs.newest_chunk = blob_call
    sweeps(world, 8)
    run = world.run("overrun")
    assert run.state is RunState.FAILED or run.ending


@pytest.mark.parametrize("kind", ["hangs", "kills the function"])
def test_a_launch_whose_call_hangs_takes_no_turn_of_others(kind: str):
    world = World(PoolKind.FARGATE, max_workers=3)
    (one,) = joined(world, "w1", prompt=False)
    one.publish = unheard
    world.submit("r1")
    world.tasks.run = hanging(world) if kind == "hangs" else deadly
    for number in (2, 3):
        try:
            world.request({"schema": 1, "id": f"r{number}", "pool": world.pool.name, "command": ["true"]})
        except Crash:
            world.wait(1)
    sweeps(world, 12)
    # It was offered, and never answered: this was noticed beside the call that hangs.
    assert world.run("r1").offers > 0


def test_what_is_due_leaves_time_to_every_pool():
    world = World()
    silent_and_overrun(world)
    world.blobs.newest_chunk = hanging(world)
    other = a_pool(id="01JZZZZZZZZZZZZZZZZZZZZZZZ", name="other")
    world.table.commit(
        Create(other),
        Create(PoolEntry(pool_id=other.id, name=other.name)),
        Create(PoolName(name=other.name, pool_id=other.id)),
    )
    found = tick(world.ports, world.pools, LIFE)
    assert found["pools"] == 2


def test_the_reaper_ends_before_its_function_is_ended():
    world = World()
    silent_and_overrun(world)
    world.blobs.newest_chunk = hanging(world)
    world.tasks.run = hanging(world)
    for left in (20, 30, 60):
        began = world.now
        tick(world.ports, world.pools, timedelta(seconds=left))
        assert world.now - began < timedelta(seconds=left)
        world.wait(MINUTE)


def asked(world: World, name: str) -> dict[str, object]:
    """A request as the API puts it into the internal queue."""
    request = {"schema": 1, "id": name, "pool": world.pool.name, "command": ["true"]}
    return {"request": request, "by": "api", "requester": "arn"}


def test_wake_ups_that_hang_let_the_requests_of_their_batch_through():
    world = World()
    silent_and_overrun(world)
    joined(world, "idle")
    world.blobs.newest_chunk = hanging(world)
    wakes = [
        encode_wake(Wake(pool_id=world.pool.id, key=world.run(f"silent{number}").key)).decode() for number in range(3)
    ]
    again = world.request(*wakes, asked(world, "new"), queue=QueueName.INTERNAL)
    assert world.run("new").state is RunState.PREPARING
    assert len(again) == 3


def test_requests_that_take_all_the_time_let_the_wake_ups_come_again():
    """Not done is said in time; a function that is ended instead would bring the whole batch again."""
    world = World()
    joined(world, *(f"w{number}" for number in range(5)))
    world.messenger.before = lambda name: hanging(world)()
    wake = encode_wake(Wake(pool_id=world.pool.id)).decode()
    requests = [asked(world, f"r{number}") for number in range(5)]
    began = world.now
    again = world.request(wake, *requests, queue=QueueName.INTERNAL)
    assert world.now - began <= World.LIFE
    assert len(again) == 6
    assert all(world.run(f"r{number}").state is RunState.PREPARING for number in range(5))
