"""`retryable`: what ended because of its worker comes again, and nothing else does."""

import pytest
from quaymaster.domain.messages import Outcome
from quaymaster.domain.states import BY_THE_WORKER, Reason, RunState

from tests.shared.memory.agents import joined, running, settle_down, unheard
from tests.shared.memory.world import World

OWN = [Reason.EXIT_CODE, Reason.LOG_TIMEOUT, Reason.RUN_TIMEOUT, Reason.OUT_OF_MEMORY, Reason.KILLED]


def failed(reason: Reason) -> Outcome:
    return Outcome(end="FAILED", reason=reason, exit_code=143)


@pytest.mark.parametrize("leaving", [False, True])
@pytest.mark.parametrize("reason", sorted(BY_THE_WORKER))
def test_a_worker_that_ended_it_by_going_says_so_and_another_takes_it(reason: Reason, leaving: bool):
    world = World()
    one = running(world, retryable=True)
    one.leaving = leaving
    one.finish(failed(reason))
    settle_down(world, one)
    if leaving:
        (one,) = joined(world, "w2")
    run = world.run("r1")
    assert (run.state, run.attempt, run.losses) == (RunState.RUNNING, 2, 1)
    assert one.begun[-1] == (run.id, 2)


@pytest.mark.parametrize("reason", OWN)
def test_what_ended_by_itself_or_by_a_timeout_does_not_come_again(reason: Reason):
    world = World()
    one = running(world, retryable=True)
    one.finish(failed(reason))
    settle_down(world, one)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, reason)


def test_what_a_user_stopped_does_not_come_again():
    world = World()
    one = running(world, retryable=True)
    one.finish(Outcome(end="STOPPED", reason=Reason.BY_USER, exit_code=143))
    settle_down(world, one)
    assert world.run("r1").state is RunState.STOPPED


@pytest.mark.parametrize("reason", sorted(BY_THE_WORKER))
def test_without_retryable_it_ends_with_the_workers_reason(reason: Reason):
    world = World()
    one = running(world)
    one.finish(failed(reason))
    settle_down(world, one)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, reason)


@pytest.mark.parametrize("reason", [*sorted(BY_THE_WORKER), *OWN])
def test_the_end_marker_says_which_it_was_when_nothing_else_is_heard(reason: Reason):
    """Its report is lost, and so is its worker: the reaper reads the marker."""
    world = World()
    one = running(world, retryable=True)
    one.publish = unheard
    one.finish(failed(reason))
    world.disconnect(one.worker_id)
    for _ in range(8):
        world.sweep(61)
    run = world.run("r1")
    if reason in BY_THE_WORKER:
        assert (run.state, run.losses) == (RunState.READY, 1)
    else:
        assert (run.state, run.reason) == (RunState.FAILED, reason)


@pytest.mark.parametrize("reason", [Reason.INTERRUPTED, Reason.EXIT_CODE])
def test_the_end_marker_of_a_run_that_went_silent_says_which_it_was(reason: Reason):
    """Its worker is connected, and its report never came."""
    world = World()
    one = running(world, retryable=True, log_timeout="2m")
    one.publish = unheard
    one.finish(failed(reason))
    for _ in range(8):
        world.sweep(61)
    run = world.run("r1")
    expected = (RunState.READY, None) if reason is Reason.INTERRUPTED else (RunState.FAILED, reason)
    assert (run.state, run.reason) == expected


def test_workers_that_go_again_and_again_end_it_at_last():
    world = World(losses=3)
    for name in ("w1", "w2", "w3"):
        if name == "w1":
            one = running(world, name, retryable=True)
        else:
            (one,) = joined(world, name)
        one.leaving = True
        one.finish(failed(Reason.INTERRUPTED))
        settle_down(world, one)
    run = world.run("r1")
    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, Reason.INTERRUPTED, 3)
    # Its worker told all of it, the log included.
    assert (run.exit_code, run.log is not None) == (143, True)


def test_a_run_that_was_being_ended_ends_as_decided_though_its_worker_went():
    world = World()
    one = running(world, retryable=True, run_timeout="1m")
    world.sweep(6 * 60)
    assert world.run("r1").ending
    one.finish(failed(Reason.INTERRUPTED))
    settle_down(world, one)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, Reason.RUN_TIMEOUT)
