"""Workers register, vanish, hand back, say goodbye; every message may be late, doubled or not theirs to send."""

from datetime import timedelta

import pytest
from quaymaster.domain.messages import (
    Assign,
    Done,
    Go,
    Goodbye,
    HandedBack,
    NewGrants,
    Outcome,
    PhaseFinished,
    Prepared,
    Preparing,
    Refused,
    Registered,
    Remains,
    Renew,
    Who,
)
from quaymaster.domain.run import Run
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import WorkerState
from quaymaster.errors import Refused as Wrong
from quaymaster.errors import Unavailable

from tests.shared.memory.agents import FINISHED, FakeAgent, agent, joined, preparing, running, settle_down, unheard
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World


def unchanged(world: World, before: list[object]) -> None:
    assert list(world.table.records()) == before
    assert world.counted("event_ignored") == 1


# Registering.


def test_a_worker_that_registers_is_idle_with_what_its_agent_said():
    world = World()
    (one,) = joined(world, "w1", log_timeout=60.0)
    worker = world.worker(one.worker_id)
    assert (worker.state, worker.session, worker.log_limit) == (WorkerState.IDLE, one.session, timedelta(seconds=60))
    described = world.table.agent(world.pool.id, one.worker_id)
    assert described
    assert described.metadata["host"] == one.worker_id[-4:]
    assert one.welcomed
    check(world)


def test_the_same_session_again_changes_nothing_while_idle():
    world = World()
    (one,) = joined(world, "w1")
    before = world.table.records()
    one.register()
    settle_down(world, one)
    assert world.table.records() == before
    assert not one.unanswered


def test_the_same_session_again_is_told_its_assignment_while_it_prepares_and_go_once_it_runs():
    world = World()
    one = preparing(world)
    one.register()
    assert any(isinstance(sent.message, Assign) for sent in world.messenger.sent)
    one.prepare()
    world.messenger.take()
    one.register()
    settle_down(world, one)
    assert isinstance(one.heard[-1], Go)
    assert len(one.begun) == 1
    check(world)


def test_an_older_session_changes_nothing():
    world = World()
    joined(world, "w1", session=2)
    before = world.table.records()
    agent(world, "w1", session=1).register()
    unchanged(world, list(before))


@pytest.mark.parametrize("begun", [False, True])
def test_a_newer_session_takes_over_and_the_run_of_the_one_before_is_lost(begun: bool):
    world = World()
    one = running(world) if begun else preparing(world)
    two = agent(world, "w1", session=2)
    two.register()
    check(world)
    run = world.run("r1")
    if begun:
        assert (run.state, run.reason) == (RunState.FAILED, Reason.WORKER_LOST)
        assert world.worker(one.worker_id).state is WorkerState.IDLE
    else:
        assert (run.state, run.attempt, run.losses) == (RunState.PREPARING, 2, 1)
    one.publish("prepared", Prepared(session=one.session, run=run.id, attempt=1))
    settle_down(world, two)
    assert world.worker(one.worker_id).session == two.session
    assert two.begun == ([] if begun else [(run.id, 2)])
    check(world)


def test_a_worker_that_holds_a_run_it_has_lost_gets_no_other_before_it_has_let_go():
    world = World()
    one = running(world)
    world.disconnect(one.worker_id)
    world.silence(after=600)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, Reason.WORKER_LOST)
    assert world.worker(one.worker_id).state is WorkerState.GONE
    waiting = world.submit("next")
    world.messenger.take()
    one.register()
    assert world.worker(one.worker_id).state is WorkerState.GONE
    assert any(isinstance(sent.message, Refused) for sent in world.messenger.sent)
    settle_down(world, one)
    assert one.begun[-1] == (waiting.id, 1)
    check(world)


def test_what_a_crashed_agent_left_is_ended_when_the_next_agent_of_that_host_says_it_is_removed():
    world = World()
    one = running(world)
    run = world.run("r1")
    two = agent(world, "w2")
    two.register(Remains(worker_id=one.worker_id, run=run.id, attempt=1))
    settle_down(world, two)
    ended = world.run("r1")
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.WORKER_LOST)
    assert world.worker(one.worker_id).left
    assert world.worker(two.worker_id).state is WorkerState.IDLE
    check(world)


def test_remains_of_another_attempt_another_run_or_another_pool_end_nothing():
    world = World()
    one = running(world)
    before = world.run("r1")
    two = agent(world, "w2")
    other = one.worker_id.replace(world.pool.id, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    two.register(
        Remains(worker_id=one.worker_id, run=before.id, attempt=2),
        Remains(worker_id=one.worker_id, run="another", attempt=1),
        Remains(worker_id=other, run=before.id, attempt=1),
    )
    assert world.run("r1") == before
    check(world)


def test_a_late_registration_of_a_worker_that_said_goodbye_is_ignored():
    world = World()
    (one,) = joined(world, "w1")
    one.terminate()
    assert world.worker(one.worker_id).state is WorkerState.GONE
    before = world.table.records()
    one.register()
    unchanged(world, list(before))


def test_an_agents_description_expires_with_its_worker():
    world = World()
    (one,) = joined(world, "w1")
    one.terminate()
    described = world.table.agent(world.pool.id, one.worker_id)
    assert described
    assert described.expires_at == world.worker(one.worker_id).expires_at


# Losing the connection.


def test_an_idle_worker_that_loses_its_connection_gets_nothing_until_it_answers():
    world = World()
    (one,) = joined(world, "w1")
    world.disconnect(one.worker_id)
    assert world.worker(one.worker_id).state is WorkerState.ASKED
    check(world)
    assert world.submit().state is RunState.READY
    settle_down(world, one)
    assert isinstance(one.heard[2], Who) or Who in {type(message) for message in one.heard}
    assert world.run("r1").state is RunState.RUNNING
    check(world)


def test_a_worker_that_does_not_answer_who_is_gone_when_the_wake_up_rings():
    world = World()
    (one,) = joined(world, "w1")
    world.disconnect(one.worker_id)
    world.wait(10)
    world.ring()
    assert world.worker(one.worker_id).state is WorkerState.ASKED
    world.wait(10)
    world.ring()
    assert world.worker(one.worker_id).state is WorkerState.GONE
    check(world)


def test_a_worker_that_went_silent_is_asked_at_each_sweep_and_comes_back():
    world = World()
    (one,) = joined(world, "w1")
    world.disconnect(one.worker_id)
    world.messenger.take()
    world.sweep(after=60)
    assert world.worker(one.worker_id).state is WorkerState.GONE
    world.messenger.take()
    world.sweep(after=60)
    settle_down(world, one)
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    check(world)


def test_nobody_asks_after_a_worker_that_said_goodbye_or_is_long_gone():
    world = World()
    one, two = joined(world, "w1", "w2")
    one.terminate()
    world.disconnect(two.worker_id)
    world.sweep(after=60)
    world.messenger.take()
    world.sweep(after=3700)
    assert world.messenger.take() == []


def test_a_run_whose_worker_is_cut_off_before_go_is_offered_elsewhere_at_the_deadline():
    world = World()
    one = preparing(world)
    (two,) = joined(world, "w2")
    world.disconnect(one.worker_id)
    check(world)
    world.wait(16)
    world.ring()
    run = world.run("r1")
    assert (run.state, run.worker, run.attempt, run.losses) == (RunState.PREPARING, two.worker_id, 2, 1)
    assert world.worker(one.worker_id).state is WorkerState.ASKED
    one.prepare()
    settle_down(world, one, two)
    assert (one.begun, two.begun) == ([], [(run.id, 2)])
    check(world)


def test_a_run_that_began_while_its_worker_was_judged_is_not_taken_from_it():
    world = World()
    one = preparing(world)
    world.disconnect(one.worker_id)
    world.wait(16)
    judged = world.worker(one.worker_id)

    def begin(name: str) -> None:
        if name == "worker" and world.store.calls["run"] > runs_read:
            world.store.before = lambda call: None
            one.prepare()

    runs_read = world.store.calls["run"]
    world.store.before = begin
    world.ring()
    assert world.worker(one.worker_id) == judged
    assert world.run("r1").state is RunState.RUNNING
    check(world)


def test_a_running_worker_that_reconnects_in_time_keeps_its_run():
    world = World()
    one = running(world)
    world.disconnect(one.worker_id)
    assert world.worker(one.worker_id).disconnected_at
    settle_down(world, one)
    worker = world.worker(one.worker_id)
    assert (worker.state, worker.disconnected_at, worker.due_at) == (WorkerState.BUSY, None, None)
    world.sweep(after=400)
    assert world.run("r1").state is RunState.RUNNING
    one.finish()
    settle_down(world, one)
    assert world.run("r1").state is RunState.FINISHED
    check(world)


def test_a_lost_who_is_asked_again_before_a_running_worker_is_called_lost():
    world = World()
    one = running(world)
    world.disconnect(one.worker_id)
    world.messenger.take()
    world.sweep(after=60)
    settle_down(world, one)
    assert world.worker(one.worker_id).disconnected_at is None
    check(world)


def test_a_running_worker_is_lost_only_beyond_its_lease_grace_and_a_minute():
    world = World()
    one = running(world)
    world.disconnect(one.worker_id)
    world.messenger.take()
    world.sweep(after=259)
    assert world.run("r1").state is RunState.RUNNING
    for silence in (2, 14):
        world.wait(silence)
        world.ring()
        # It is asked once more before it is given up.
        assert world.run("r1").state is RunState.RUNNING
    world.wait(2)
    world.ring()
    ended = world.run("r1")
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.WORKER_LOST)
    assert world.worker(one.worker_id).state is WorkerState.GONE
    check(world)


def test_a_chunk_proves_that_a_cut_off_worker_is_alive():
    world = World()
    one = running(world)
    world.disconnect(one.worker_id)
    world.messenger.take()
    world.wait(200)
    one.write("still here")
    world.wait(61)
    world.sweep()
    assert world.run("r1").state is RunState.RUNNING
    world.messenger.take()
    world.sweep(after=198)
    assert world.run("r1").state is RunState.RUNNING
    world.messenger.take()
    world.silence(after=2)
    assert world.run("r1").reason is Reason.WORKER_LOST
    check(world)


def test_a_worker_is_never_called_lost_while_the_bucket_cannot_be_asked():
    world = World()
    one = running(world)
    world.disconnect(one.worker_id)
    world.messenger.take()
    world.blobs.down = "no bucket"
    assert world.sweep(after=400).failed == 1
    assert world.run("r1").state is RunState.RUNNING
    world.blobs.down = None
    world.silence(after=121)
    assert world.run("r1").reason is Reason.WORKER_LOST
    check(world)


def test_a_lost_worker_whose_run_had_ended_well_leaves_it_finished():
    world = World()
    one = running(world)
    one.publish = unheard
    one.finish()
    world.disconnect(one.worker_id)
    world.messenger.take()
    world.silence(after=400)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FINISHED, None)
    check(world)


def test_a_retryable_run_is_begun_again_when_its_worker_is_lost_and_the_first_log_is_kept():
    world = World()
    one = running(world, retryable=True)
    one.write("from the first attempt")
    world.disconnect(one.worker_id)
    world.messenger.take()
    world.silence(after=400)
    run = world.run("r1")
    assert (run.state, run.losses) == (RunState.READY, 1)
    end = world.blobs.log_end(world.pool.id, run.id, 1)
    assert end
    assert (end.outcome.reason, end.digest.lines, end.digest.complete) == (Reason.WORKER_LOST, 2, False)
    (two,) = joined(world, "w2")
    assert two.begun == [(run.id, 2)]
    two.finish()
    assert world.run("r1").state is RunState.FINISHED
    check(world)


def test_a_run_is_ended_by_the_third_worker_it_loses():
    world = World()
    for number in range(3):
        (one,) = joined(world, f"w{number}", prompt=False)
        if not number:
            world.submit("r1")
        settle_down(world, one)
        assert world.run("r1").worker == one.worker_id
        world.disconnect(one.worker_id)
        world.wait(16)
        world.ring()
        world.messenger.take()
        check(world)
    ended = world.run("r1")
    assert (ended.state, ended.reason, ended.losses) == (RunState.FAILED, Reason.WORKER_LOST, 2)


def test_a_worker_that_was_cut_off_as_it_finished_is_asked_before_it_gets_another_run():
    world = World()
    one = running(world)
    world.disconnect(one.worker_id)
    world.messenger.take()
    waiting = world.submit("next")
    one.finish()
    assert world.run("r1").state is RunState.FINISHED
    assert world.worker(one.worker_id).state is WorkerState.ASKED
    assert world.run("next").state is RunState.READY
    check(world)
    settle_down(world, one)
    assert one.begun[-1] == (waiting.id, 1)


def test_presence_of_unknown_clients_and_of_connecting_ones_means_nothing():
    world = World()
    before = world.table.records()
    world.disconnect("quaymaster.unknown.w1")
    world.disconnect(agent(world, "never-seen").worker_id)
    assert world.table.records() == before


# Handing back and leaving.


def test_a_run_that_is_handed_back_before_go_is_offered_to_the_next():
    world = World()
    one = preparing(world)
    one.terminate()
    settle_down(world, one)
    run = world.run("r1")
    assert (run.state, run.offers, run.losses) == (RunState.READY, 0, 0)
    assert world.worker(one.worker_id).state is WorkerState.LEAVING
    check(world)
    one.terminate()
    assert world.worker(one.worker_id).state is WorkerState.GONE
    (two,) = joined(world, "w2")
    assert two.begun == [(run.id, 2)]
    check(world)


def test_a_run_that_is_handed_back_meets_another_idle_worker_at_once():
    world = World()
    one = preparing(world)
    (two,) = joined(world, "w2")
    one.terminate()
    assert world.run("r1").worker == two.worker_id
    check(world)


def test_a_worker_that_stays_and_hands_back_for_ever_does_not_go_on_for_ever():
    world = World(offers=4)
    (one,) = joined(world, "w1", prompt=False)
    world.submit("r1")
    for _ in range(10):
        one.take(world.messenger.take())
        if not one.held:
            break
        key, one.held = one.held.key, None
        one.publish("handed_back", HandedBack(session=one.session, run=key[0], attempt=key[1]))
        check(world)
    ended = world.run("r1")
    assert (ended.state, ended.reason, ended.attempt) == (RunState.FAILED, Reason.NO_WORKER_ANSWERED, 4)
    assert world.worker(one.worker_id).state is WorkerState.IDLE


@pytest.mark.parametrize(("retryable", "state"), [(False, RunState.FAILED), (True, RunState.PREPARING)])
def test_what_is_handed_back_after_go_is_not_begun_again_unless_it_is_retryable(retryable: bool, state: RunState):
    world = World()
    (one,) = joined(world, "w1", prompt=False)
    world.submit("r1", retryable=retryable)
    settle_down(world, one)
    one.prepare()
    world.messenger.take()
    one.terminate()
    assert world.run("r1").state is (RunState.READY if retryable else RunState.FAILED)
    assert world.run("r1").reason is (None if retryable else Reason.INTERRUPTED)
    joined(world, "w2", prompt=False)
    assert world.run("r1").state is state
    assert one.begun == []
    check(world)


def test_goodbye_of_an_idle_worker_takes_it_and_its_marker_away():
    world = World()
    (one,) = joined(world, "w1")
    one.terminate()
    assert world.worker(one.worker_id).state is WorkerState.GONE
    assert world.table.idle(world.pool.id, 9) == []
    settle_down(world, one)
    assert one.heard[-1] == Done(session=one.session, event="goodbye")
    check(world)


def test_goodbye_with_a_run_loses_it():
    world = World()
    one = running(world)
    one.publish("goodbye", Goodbye(session=one.session))
    assert world.run("r1").reason is Reason.WORKER_LOST
    check(world)


def test_goodbye_of_an_older_session_changes_nothing():
    world = World()
    (two,) = joined(world, "w1", session=2)
    before = world.table.records()
    two.publish("goodbye", Goodbye(session="session-0001"))
    assert world.table.records() == before


def test_a_private_worker_that_leaves_and_is_never_heard_of_again_is_gone_after_a_while():
    world = World()
    one = running(world)
    one.leaving = True
    one.finish()
    assert world.worker(one.worker_id).state is WorkerState.LEAVING
    assert world.submit("next").state is RunState.READY
    check(world)
    world.sweep(after=301)
    assert world.worker(one.worker_id).state is WorkerState.GONE
    check(world)


# What changes nothing.


def finished(one: FakeAgent, run: Run, attempt: int = 1) -> PhaseFinished:
    return PhaseFinished(session=one.session, run=run.id, attempt=attempt, outcome=FINISHED)


def test_an_end_told_by_another_worker_changes_nothing_and_is_counted():
    world = World()
    running(world)
    (two,) = joined(world, "w2")
    before = world.table.records()
    two.publish("phase_finished", finished(two, world.run("r1")))
    unchanged(world, list(before))


def test_an_end_of_an_older_attempt_changes_nothing_and_is_counted():
    world = World()
    one = preparing(world)
    two = agent(world, "w1", session=2, prompt=False)
    two.register()
    run = world.run("r1")
    assert run.attempt == 2
    before = world.table.records()
    two.publish("phase_finished", finished(two, run, attempt=1))
    one.publish("phase_finished", finished(one, run, attempt=2))
    assert world.table.records() == before
    assert world.counted("event_ignored") == 2


def test_an_end_that_comes_twice_is_answered_twice_and_counted_once():
    world = World()
    one = running(world)
    one.finish()
    before = world.table.records()
    one.repeat()
    unchanged(world, list(before))
    assert sum(isinstance(message, Done) for message in world.messenger.take(one.worker_id)) == 2


def test_a_final_run_stays_as_it_ended_whatever_comes_later():
    world = World()
    one = running(world)
    one.finish(Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=2))
    ended = world.run("r1")
    one.publish("phase_finished", finished(one, ended))
    one.publish("prepared", Prepared(session=one.session, run=ended.id, attempt=1))
    one.publish("handed_back", HandedBack(session=one.session, run=ended.id, attempt=1))
    one.publish("preparing", Preparing(session=one.session, run=ended.id, attempt=1))
    one.publish("renew", Renew(session=one.session, run=ended.id, attempt=1, quiet_seconds=0))
    assert world.run("r1") == ended
    check(world)


def test_a_late_end_of_a_worker_that_was_put_aside_brings_the_worker_back():
    world = World()
    one = running(world)
    world.disconnect(one.worker_id)
    world.messenger.take()
    publish = one.publish
    one.publish = unheard
    one.finish(marker=False)
    world.silence(after=400)
    ended = world.run("r1")
    assert ended.reason is Reason.WORKER_LOST
    one.publish = publish
    world.messenger.take()
    one.repeat()
    settle_down(world, one)
    assert world.run("r1").state is RunState.FAILED
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    check(world)


def test_a_repeated_prepared_is_answered_with_go_again_and_a_stale_one_is_refused():
    world = World()
    one = preparing(world)
    one.prepare()
    one.repeat()
    gos = [sent.message for sent in world.messenger.sent if isinstance(sent.message, Go)]
    assert len(gos) == 2
    world.messenger.take()
    one.publish("prepared", Prepared(session=one.session, run=world.run("r1").id, attempt=7))
    (sent,) = world.messenger.sent
    assert isinstance(sent.message, Refused)


def test_output_that_no_chunk_tells_of_keeps_a_run_from_being_called_silent():
    """Its log has reached its cap: no chunk comes any more, and its worker says that it writes."""
    world = World(log_timeout=timedelta(minutes=2))
    one = running(world)
    for _ in range(20):
        world.wait(60)
        one.publish(
            "renew", Renew(session=one.session, run=world.run("r1").id, attempt=1, quiet_seconds=1, unseen=True)
        )
        world.sweep()
    run = world.run("r1")
    assert (run.state, run.ending, run.upload_failing) == (RunState.RUNNING, None, False)
    assert not [sent for sent in world.messenger.take(one.worker_id) if isinstance(sent, NewGrants)]
    world.sweep(7 * 60)
    assert world.run("r1").ending


def test_grants_are_renewed_for_the_holder_only_and_failing_uploads_show():
    world = World()
    one = running(world)
    run = world.run("r1")
    world.wait(100)
    one.publish("renew", Renew(session=one.session, run=run.id, attempt=1, quiet_seconds=40, uploads="failing"))
    shown = world.run("r1")
    assert (shown.upload_failing, shown.output_at) == (True, world.now - timedelta(seconds=40))
    (sent,) = world.messenger.sent
    assert isinstance(sent.message, NewGrants)
    world.messenger.take()
    one.publish("renew", Renew(session=one.session, run=run.id, attempt=1, quiet_seconds=1))
    assert not world.run("r1").upload_failing
    world.messenger.take()
    before = world.run("r1")
    one.publish("renew", Renew(session="another", run=run.id, attempt=1, quiet_seconds=1, uploads="failing"))
    assert isinstance(world.messenger.sent[-1].message, Refused)
    assert world.run("r1") == before


def test_a_slow_preparation_is_written_once():
    world = World()
    one = preparing(world)
    run = world.run("r1")
    one.publish("preparing", Preparing(session=one.session, run=run.id, attempt=1))
    told = world.run("r1")
    assert told.answered_at == world.now
    world.wait(300)
    one.publish("preparing", Preparing(session=one.session, run=run.id, attempt=1))
    assert world.run("r1") == told


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b'{"schema":9,"session":"s"}', b'{"schema":1}'])
def test_a_message_that_nobody_sends_is_refused(payload: bytes):
    world = World()
    with pytest.raises(Wrong):
        world.hear(agent(world).worker_id, "registered", payload)
    with pytest.raises(Wrong):
        world.hear(agent(world).worker_id, "invented", b"{}")


def test_a_message_under_another_pools_id_is_refused():
    world = World()
    stranger = agent(world).worker_id.replace(world.pool.id, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    with pytest.raises(Wrong):
        world.hear(stranger, "registered", Registered(session="s"))


def test_a_message_whose_handling_could_not_be_told_on_comes_again_and_heals():
    world = World()
    (one,) = joined(world, "w1", prompt=False)
    world.submit("r1")
    settle_down(world, one)
    world.submit("r2")
    one.prepare()
    settle_down(world, one)
    world.messenger.down = "no broker"
    with pytest.raises(Unavailable):
        one.finish()
    world.messenger.down = None
    assert world.run("r2").state is RunState.PREPARING
    one.repeat()
    settle_down(world, one)
    assert one.held
    assert one.held.run == world.run("r2").id
    check(world)
