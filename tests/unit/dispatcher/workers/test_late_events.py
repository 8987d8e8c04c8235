"""Events that are handled late: the broker's times decide, never the order of handling."""

from datetime import timedelta

from quaymaster.domain.messages import FromAgent
from quaymaster.domain.states import RunState
from quaymaster.domain.worker import WorkerState

from tests.shared.memory.agents import agent, joined, running, settle_down
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World


def test_a_lost_connection_that_is_told_after_the_worker_was_heard_again_changes_nothing():
    world = World()
    (one,) = joined(world, "w1")
    lost_at = world.now
    world.wait(5)
    two = agent(world, session=2)
    two.register()
    before = world.worker(one.worker_id)
    world.disconnect(one.worker_id, at=lost_at)
    assert world.worker(one.worker_id) == before
    assert before.state is WorkerState.IDLE
    check(world)


def test_a_word_from_before_the_connection_was_lost_does_not_bring_a_worker_back():
    world = World()
    (one,) = joined(world, "w1")
    said_at = world.now
    world.wait(5)
    world.disconnect(one.worker_id)
    world.messenger.take()
    one.publish = lambda event, message: world.hear(one.worker_id, event, message, at=said_at)
    one.register()
    assert world.worker(one.worker_id).state is WorkerState.ASKED
    one.publish = lambda event, message: world.hear(one.worker_id, event, message)
    one.register()
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    check(world)


def test_a_running_worker_whose_older_word_is_handled_late_still_counts_as_disconnected():
    world = World()
    one = running(world)
    said_at = world.now
    world.wait(5)
    world.disconnect(one.worker_id)
    one.publish = lambda event, message: world.hear(one.worker_id, event, message, at=said_at)
    one.register()
    assert world.worker(one.worker_id).disconnected_at
    check(world)


def test_a_connected_worker_whose_word_waits_in_a_queue_is_not_lost_while_it_answers_a_fresh_question():
    """Its connection was lost and came back at once; the event of the loss was handled, and `registered` waits."""
    world = World()
    one = running(world)
    world.disconnect(one.worker_id)
    waiting: list[tuple[str, FromAgent]] = []
    one.publish = lambda event, message: waiting.append((event, message))
    back_at = world.now + timedelta(seconds=1)
    world.wait(2)
    settle_down(world, one)
    world.sweep(after=400)
    assert world.run("r1").state is RunState.RUNNING
    one.publish = lambda event, message: world.hear(one.worker_id, event, message)
    settle_down(world, one)
    assert world.worker(one.worker_id).disconnected_at is None
    world.sweep(after=61)
    for event, message in waiting:
        world.hear(one.worker_id, event, message, at=back_at)
    settle_down(world, one)
    assert world.run("r1").state is RunState.RUNNING
    one.finish()
    assert world.run("r1").state is RunState.FINISHED
    check(world)
