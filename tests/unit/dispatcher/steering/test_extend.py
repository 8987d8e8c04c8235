"""Extend: longer timeouts, which the worker and the control plane keep."""

from datetime import timedelta

import pytest
from quaymaster.dispatcher.steering.extend import extend_run
from quaymaster.domain.messages import Extend
from quaymaster.domain.run import Run, read_history
from quaymaster.domain.states import Reason, RunState
from quaymaster.errors import Conflict, Refused, Unavailable

from tests.shared.memory.agents import FakeAgent, joined, preparing, running, settle_down
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World

M = timedelta(minutes=1)


def extend(world: World, log: timedelta | None = None, run: timedelta | None = None, note: str = "") -> Run:
    return extend_run(world.ports, world.run("r1").id, "alice", note, log, run)


def told(world: World, one: FakeAgent) -> list[Extend]:
    return [message for message in world.messenger.take(one.worker_id) if isinstance(message, Extend)]


def test_both_enforcers_have_the_new_timeouts_and_the_log_says_who_gave_them():
    world = World()
    one = running(world, log_timeout="7m", run_timeout="10m")
    found = extend(world, run=30 * M, note="slow registry")
    assert (found.log_timeout, found.run_timeout) == (7 * M, 30 * M)
    (message,) = told(world, one)
    assert (message.log_timeout_seconds, message.run_timeout_seconds) == (420, 1800)
    assert message.note == "run timeout 10m to 30m, by alice: slow registry"
    change = read_history(found)[-1]
    assert (change.state, change.by) == (RunState.RUNNING, "alice")
    assert change.note == "run timeout 10m to 30m: slow registry"
    check(world)
    for _ in range(5):
        one.write("a line", sequence=_ + 1)
        world.sweep(after=300)
    run = world.run("r1")
    assert (run.state, run.ending) == (RunState.RUNNING, None)
    for number in range(3):
        one.write("a line", sequence=number + 7)
        world.sweep(after=300)
    assert world.run("r1").reason is Reason.RUN_TIMEOUT


def test_said_twice_nothing_more_is_written_and_the_worker_is_told_again():
    world = World()
    one = running(world)
    first = extend(world, run=100 * M)
    told(world, one)
    assert extend(world, run=100 * M) == first
    assert len(told(world, one)) == 1


def test_more_than_the_pool_allows_is_refused_by_name():
    world = World(max_run_timeout=timedelta(hours=2))
    running(world)
    with pytest.raises(Refused, match=f"run_timeout: found 3h; pool {world.pool.name} allows at most 2h"):
        extend(world, run=180 * M)


def test_more_than_the_workers_host_allows_is_refused():
    world = World()
    (one,) = joined(world, "w1", log_timeout=600.0)
    world.submit("r1")
    settle_down(world, one)
    with pytest.raises(Refused, match="log_timeout: found 20m; its worker's host allows at most 10m"):
        extend(world, log=20 * M)


def test_less_than_there_is_is_refused():
    world = World()
    running(world, run_timeout="10m")
    with pytest.raises(Refused, match="run_timeout: found 9m; at least 10m, which the run has"):
        extend(world, run=9 * M)


def test_only_a_run_that_runs_is_extended():
    world = World()
    preparing(world)
    with pytest.raises(Conflict, match="found PREPARING; a run that has begun"):
        extend(world, run=100 * M)


def test_where_the_worker_cannot_be_told_it_is_said_again():
    world = World()
    one = running(world)
    world.messenger.down = "away"
    with pytest.raises(Unavailable):
        extend(world, run=100 * M)
    world.messenger.down = None
    extend(world, run=100 * M)
    assert len(told(world, one)) == 1
