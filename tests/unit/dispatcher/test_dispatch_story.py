"""A run's way with a worker that does what it should."""

from datetime import timedelta

import pytest
from quaymaster.domain.messages import Assign, Done, Go, Outcome, Welcome
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import WorkerState

from tests.shared.memory.agents import joined, settle_down
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World


def test_a_run_goes_to_an_idle_worker_at_once_and_ends_with_its_outcome():
    world = World()
    (one,) = joined(world, "w1")
    one.prompt = False
    run = world.submit()
    assert (run.state, run.attempt, run.worker) == (RunState.PREPARING, 1, one.worker_id)
    check(world)
    settle_down(world, one)
    one.prepare()
    assert world.run("r1").state is RunState.RUNNING
    settle_down(world, one)
    assert one.begun == [(run.id, 1)]
    one.finish()
    settle_down(world, one)
    ended = world.run("r1")
    assert (ended.state, ended.reason, ended.exit_code) == (RunState.FINISHED, None, 0)
    assert ended.log
    assert ended.log.lines == 1
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    assert [type(message) for message in one.heard] == [Welcome, Assign, Go, Done]
    assert not one.unanswered
    check(world)


def test_an_assignment_says_everything_the_agent_needs():
    world = World(accept_timeout=timedelta(seconds=9))
    (one,) = joined(world, "w1", prompt=False)
    world.submit(command=["make", "all"], environment={"A": "b"}, stack="net", log_timeout="3m")
    (sent,) = world.messenger.sent
    assert sent.expires == timedelta(seconds=9)
    assign = sent.message
    assert isinstance(assign, Assign)
    assert assign.session == one.session
    assert (assign.command, assign.environment, assign.stack) == (["make", "all"], {"A": "b"}, "net")
    assert (assign.log_timeout_seconds, assign.run_timeout_seconds) == (180, 70 * 60)
    assert assign.grants.chunks.key_prefix.endswith("/000001/")


def test_a_run_without_an_idle_worker_waits_and_is_taken_by_the_next_that_registers():
    world = World()
    waiting = world.submit()
    assert (waiting.state, waiting.attempt) == (RunState.READY, 0)
    check(world)
    (one,) = joined(world, "w1")
    assert world.run("r1").state is RunState.RUNNING
    assert one.begun == [(waiting.id, 1)]
    check(world)


def test_a_worker_that_finishes_takes_the_next_run_in_the_same_transaction():
    world = World()
    (one,) = joined(world, "w1")
    world.submit("first")
    settle_down(world, one)
    world.wait(1)
    second = world.submit("second")
    world.wait(1)
    third = world.submit("third")
    world.store.calls.clear()
    one.finish()
    assert world.store.calls["commit"] == 1
    assert world.run("first").state is RunState.FINISHED
    assert world.run("second").state is RunState.PREPARING
    settle_down(world, one)
    assert one.begun[1:] == [(second.id, 1)]
    assert world.worker(one.worker_id).runs_done == 1
    one.finish()
    settle_down(world, one)
    assert one.begun[2:] == [(third.id, 1)]
    check(world)


def test_runs_wait_in_the_order_of_their_class_and_then_of_their_coming():
    world = World()
    for name, kind in (("drift", "drift"), ("proposed", "proposed"), ("task", "task"), ("tracked", "tracked")):
        world.submit(name, type=kind)
        world.wait(1)
    (one,) = joined(world, "w1")
    for name in ("task", "tracked", "proposed", "drift"):
        assert world.run(name).state is RunState.RUNNING, name
        one.finish()
        settle_down(world, one)
    check(world)


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        (Outcome(end="FINISHED", exit_code=0), RunState.FINISHED, None),
        (Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=3), RunState.FAILED, Reason.EXIT_CODE),
        (Outcome(end="FAILED", reason=Reason.LOG_TIMEOUT), RunState.FAILED, Reason.LOG_TIMEOUT),
        (Outcome(end="FAILED", reason=Reason.OUT_OF_MEMORY), RunState.FAILED, Reason.OUT_OF_MEMORY),
        (Outcome(end="FAILED", reason=Reason.QUEUE_EXPIRED), RunState.FAILED, Reason.EXIT_CODE),
        (Outcome(end="FAILED"), RunState.FAILED, Reason.EXIT_CODE),
    ],
)
def test_a_run_ends_with_what_its_worker_says_as_far_as_the_table_of_states_has_it(
    outcome: Outcome, state: RunState, reason: Reason | None
):
    world = World()
    (one,) = joined(world, "w1")
    world.submit()
    settle_down(world, one)
    one.finish(outcome)
    ended = world.run("r1")
    assert (ended.state, ended.reason, ended.exit_code) == (state, reason, outcome.exit_code)
    check(world)


def test_a_preparation_that_fails_ends_the_run_before_it_began():
    world = World()
    (one,) = joined(world, "w1", prompt=False)
    world.submit()
    settle_down(world, one)
    one.finish(Outcome(end="FAILED", reason=Reason.IMAGE_PULL, note="no such image"))
    ended = world.run("r1")
    assert (ended.state, ended.reason, ended.note) == (RunState.FAILED, Reason.IMAGE_PULL, "no such image")
    assert one.begun == []
    check(world)


def test_the_least_timeout_of_request_pool_and_launcher_is_in_force():
    world = World(log_timeout=timedelta(minutes=5), max_run_timeout=timedelta(minutes=30))
    (one,) = joined(world, "w1", run_timeout=600.0)
    run = world.submit("own", log_timeout="2m", run_timeout="20m")
    assert (run.log_timeout, run.run_timeout) == (timedelta(minutes=2), timedelta(minutes=10))
    settle_down(world, one)
    one.finish()
    settle_down(world, one)
    (two,) = joined(world, "w2")
    one.terminate()
    run = world.submit("defaults")
    assert run.worker == two.worker_id
    assert (run.log_timeout, run.run_timeout) == (timedelta(minutes=5), timedelta(minutes=30))


def test_by_ticket_the_launchers_limit_counts_as_well():
    world = World()
    world.submit(run_timeout="20m", log_timeout="9m")
    joined(world, "w1", run_timeout=60.0, log_timeout=30.0)
    run = world.run("r1")
    assert (run.log_timeout, run.run_timeout) == (timedelta(seconds=30), timedelta(seconds=60))


def test_two_hundred_runs_on_twenty_workers_begin_once_each():
    world = World()
    agents = joined(world, *(f"w{number}" for number in range(20)))
    for number in range(200):
        world.submit(f"r{number}")
    while busy := [one for one in agents if one.held and one.held.stage == "running"] or world.messenger.sent:
        settle_down(world, *agents)
        for one in agents:
            if one.held and one.held.stage == "running":
                one.finish()
        assert busy
    begun = [attempt for one in agents for attempt in one.begun]
    assert len(begun) == len(set(begun)) == 200
    assert all(world.run(f"r{number}").state is RunState.FINISHED for number in range(200))
    check(world)
