"""Stop and kill: the run counts as running until its process is surely gone."""

from datetime import timedelta

import pytest
from quaymaster.dispatcher.steering.stop import stop_run
from quaymaster.domain.messages import Kill, Outcome, Stop, ToAgent
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.run import read_history
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import WorkerState
from quaymaster.errors import Conflict

from tests.shared.memory.agents import FakeAgent, agent, preparing, running, settle_down
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World


def stop(world: World, note: str = "", *, at_once: bool = False) -> RunState:
    return stop_run(world.ports, world.run("r1").id, "alice", note, at_once=at_once).state


def told(world: World, one: FakeAgent) -> list[ToAgent]:
    """What lies with the broker for the worker."""
    return [message for message in world.messenger.take(one.worker_id) if isinstance(message, Stop | Kill)]


def test_a_stop_is_told_with_who_and_why_and_its_end_is_by_the_user():
    world = World()
    one = running(world)
    assert stop(world, "too long") is RunState.RUNNING
    run = world.run("r1")
    assert run.ending
    assert (run.ending.state, run.ending.reason, run.ending.by) == (RunState.STOPPED, Reason.BY_USER, "alice")
    assert run.ending.deadline == world.now + world.pool.settings.lost_after
    (message,) = told(world, one)
    assert isinstance(message, Stop)
    assert (message.reason, message.note) == (Reason.BY_USER, "stopped by alice: too long")
    assert read_history(run)[-1].note == "stop: too long"
    one.finish(Outcome(end="STOPPED", reason=Reason.BY_USER, exit_code=143, note=message.note))
    settle_down(world, one)
    run = world.run("r1")
    assert (run.state, run.reason, run.exit_code, run.note) == (
        RunState.STOPPED, Reason.BY_USER, 143, "stopped by alice: too long",
    )  # fmt: skip
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    check(world)


def test_said_twice_it_is_told_again_and_not_written():
    world = World()
    one = running(world)
    stop(world)
    before = world.run("r1")
    told(world, one)
    stop(world, "again")
    assert world.run("r1") == before
    assert len(told(world, one)) == 1
    one.finish(Outcome(end="STOPPED", reason=Reason.BY_USER, exit_code=0))
    assert stop(world) is RunState.STOPPED


def test_a_command_that_dies_of_it_by_itself_is_stopped_too():
    world = World()
    one = running(world)
    stop(world)
    one.finish(Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=1))
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.STOPPED, Reason.BY_USER)


def test_a_run_that_ended_well_meanwhile_has_ended_well():
    world = World()
    one = running(world)
    stop(world)
    one.finish()
    assert world.run("r1").state is RunState.FINISHED


def test_a_kill_hastens_a_stop_and_a_stop_slows_no_kill():
    world = World()
    one = running(world)
    stop(world)
    told(world, one)
    stop(world, at_once=True)
    (message,) = told(world, one)
    assert isinstance(message, Kill)
    assert message.note == "killed by alice"
    stop(world)
    (message,) = told(world, one)
    assert isinstance(message, Kill)


def test_a_sweep_says_stop_again_within_the_grace_and_kill_behind_it():
    world = World(stop_grace=timedelta(seconds=90))
    one = running(world)
    stop(world)
    told(world, one)
    world.sweep(after=61)
    assert [type(message) for message in told(world, one)] == [Stop]
    world.sweep(after=61)
    assert [type(message) for message in told(world, one)] == [Kill]


def test_a_worker_that_is_away_is_told_as_it_comes_back():
    world = World()
    one = running(world)
    world.disconnect(one.worker_id)
    stop(world)
    told(world, one)
    one.register()
    assert [type(message) for message in told(world, one)] == [Stop]


def test_a_worker_that_never_answers_is_stopped_for_all_that_anybody_knows():
    world = World()
    running(world)
    stop(world, "enough")
    for _ in range(6):
        world.messenger.sent.clear()
        world.sweep(after=61)
        check(world)
    run = world.run("r1")
    assert (run.state, run.reason) == (RunState.STOPPED, Reason.BY_USER)


def test_a_task_is_given_its_grace_before_ecs_is_told():
    world = World(PoolKind.FARGATE, stop_grace=timedelta(seconds=90))
    world.submit("r1")
    (task,) = world.tasks.running
    one = agent(world, task.arn.rpartition("/")[2], launch=task.launch_id)
    one.register()
    settle_down(world, one)
    stop(world)
    world.messenger.sent.clear()
    world.sweep(after=61)
    assert not world.tasks.tasks[task.arn].stopped
    world.sweep(after=61)
    assert world.tasks.tasks[task.arn].stopped


def test_what_has_not_begun_is_canceled_not_stopped():
    world = World()
    preparing(world)
    with pytest.raises(Conflict, match="found PREPARING; a run that has begun: cancel this one"):
        stop(world)
    assert world.run("r1").state is RunState.PREPARING


def test_what_something_else_ends_is_left_to_it():
    world = World()
    running(world, run="r1", run_timeout="2m")
    world.messenger.sent.clear()
    world.silence(after=420)
    with pytest.raises(Conflict, match="being ended as run_timeout by reaper; a run that nothing else ends"):
        stop(world)


def test_what_has_ended_says_how():
    world = World()
    running(world).finish(Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=3))
    with pytest.raises(Conflict, match=r"found FAILED \(exit_code\); a run that has not ended"):
        stop(world, at_once=True)


def test_a_broker_that_does_not_answer_keeps_no_stop_from_being_decided():
    world = World()
    one = running(world)
    world.messenger.down = "away"
    assert stop(world) is RunState.RUNNING
    assert world.run("r1").ending
    world.messenger.down = None
    world.sweep(after=61)
    assert len(told(world, one)) == 1
