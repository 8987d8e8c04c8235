"""Whatever goes silent or overruns is ended, and whatever was missed is healed."""

import gzip
import json
from datetime import timedelta

import pytest
from quaymaster.domain import objects
from quaymaster.domain.keys import Key
from quaymaster.domain.messages import Assign, Kill, Outcome, Preparing, Refused
from quaymaster.domain.run import Run
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import WorkerState
from quaymaster.ports import QueueName

from tests.shared.memory.agents import FakeAgent, agent, joined, preparing, running, settle_down, unheard
from tests.shared.memory.invariants import check
from tests.shared.memory.world import Crash, World, crash_before

MINUTE = 60.0


def log_of(world: World, run: Run, attempt: int = 1) -> list[dict[str, str]]:
    """The lines of an attempt's final log."""
    body = world.blobs.objects[objects.log_key(world.pool.id, run.id, attempt)].body
    return [json.loads(line) for line in gzip.decompress(body).splitlines()]


def kills(world: World) -> list[Kill]:
    return [sent.message for sent in world.messenger.sent if isinstance(sent.message, Kill)]


# Offers.


def test_an_offer_that_is_not_answered_is_repeated_once_and_then_goes_elsewhere():
    world = World()
    (one,) = joined(world, "w1", prompt=False)
    run = world.submit()
    (two,) = joined(world, "w2")
    world.messenger.take()
    world.sweep(after=14)
    assert world.messenger.take() == []
    world.sweep(after=2)
    (again,) = world.messenger.take()
    assert isinstance(again, Assign)
    assert again.attempt == 1
    check(world)
    world.sweep(after=20)
    moved = world.run("r1")
    assert (moved.worker, moved.attempt, moved.offers) == (two.worker_id, 2, 1)
    assert world.worker(one.worker_id).state is WorkerState.ASKED
    check(world)
    settle_down(world, one, two)
    assert two.begun == [(run.id, 2)]
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    check(world)


def test_a_run_fails_after_the_pools_number_of_offers():
    world = World(offers=3)
    world.submit()
    for number in range(3):
        (one,) = joined(world, f"w{number}", prompt=False)
        assert world.run("r1").worker == one.worker_id
        for _ in range(2):
            world.messenger.take()
            world.sweep(after=60)
        check(world)
    ended = world.run("r1")
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.NO_WORKER_ANSWERED)


def test_an_offer_that_was_answered_too_late_is_refused_and_one_taken_while_it_was_judged_stands():
    world = World()
    one = preparing(world)
    world.sweep(after=16)
    world.messenger.take()

    def begin(name: str) -> None:
        if name == "worker":
            world.store.before = lambda call: None
            one.prepare()

    world.store.before = begin
    world.sweep(after=16)
    assert world.run("r1").state is RunState.RUNNING
    assert world.worker(one.worker_id).state is WorkerState.BUSY
    settle_down(world, one)
    assert len(one.begun) == 1
    check(world)


def test_a_slow_preparation_is_left_alone_until_its_own_deadline():
    world = World()
    one = preparing(world)
    run = world.run("r1")
    one.publish("preparing", Preparing(session=one.session, run=run.id, attempt=1))
    for _ in range(9):
        world.sweep(after=60)
    assert world.run("r1").attempt == 1
    assert world.messenger.take() == []
    world.sweep(after=61)
    ended = world.run("r1")
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.PREPARE_TIMEOUT)
    check(world)
    assert Refused in {type(sent.message) for sent in world.messenger.sent}
    settle_down(world, one)
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    assert one.begun == []
    check(world)


# Timeouts.


def test_a_run_that_overran_is_killed_and_ends_as_such_when_its_worker_says_so():
    world = World()
    one = running(world, run_timeout="10m", log_timeout="2h")
    world.sweep(after=14 * MINUTE - 1)
    assert not world.run("r1").ending
    world.sweep(after=2)
    run = world.run("r1")
    assert run.ending
    assert (run.state, run.ending.reason) == (RunState.RUNNING, Reason.RUN_TIMEOUT)
    assert world.worker(one.worker_id).state is WorkerState.BUSY
    check(world)
    settle_down(world, one)
    ended = world.run("r1")
    assert (ended.state, ended.reason, ended.exit_code) == (RunState.FAILED, Reason.RUN_TIMEOUT, -9)
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    check(world)


def test_the_run_timeout_needs_no_bucket():
    world = World()
    one = running(world, run_timeout="10m", log_timeout="2h")
    world.blobs.down = "no bucket"
    world.sweep(after=14 * MINUTE + 1)
    settle_down(world, one)
    assert world.run("r1").reason is Reason.RUN_TIMEOUT


def test_a_silent_run_is_killed_after_its_log_timeout_and_slack():
    world = World()
    one = running(world, log_timeout="3m")
    world.sweep(after=7 * MINUTE - 1)
    assert not world.run("r1").ending
    world.sweep(after=2)
    assert len(kills(world)) == 1
    settle_down(world, one)
    assert world.run("r1").reason is Reason.LOG_TIMEOUT
    check(world)


def test_the_newest_chunk_decides_over_silence():
    world = World()
    one = running(world, log_timeout="3m")
    for sequence in range(1, 5):
        world.wait(5 * MINUTE)
        one.write("working", sequence=sequence)
        world.sweep(after=1 * MINUTE)
        assert not world.run("r1").ending
    assert (world.run("r1").chunk or "").endswith("00000004.ndjson.gz")
    world.sweep(after=6 * MINUTE + 1)
    assert world.run("r1").ending
    check(world)


def test_a_worker_that_cannot_upload_is_not_silent_as_long_as_it_says_when_it_last_heard_something():
    world = World()
    one = running(world, log_timeout="3m")
    run = world.run("r1")
    world.wait(6 * MINUTE)
    world.hear(
        one.worker_id,
        "renew",
        json.dumps(
            {
                "schema": 1,
                "session": one.session,
                "run": run.id,
                "attempt": 1,
                "quiet_seconds": 30,
                "uploads": "failing",
            }
        ).encode(),
    )
    world.sweep(after=2 * MINUTE)
    assert not world.run("r1").ending
    world.sweep(after=5 * MINUTE)
    assert world.run("r1").ending


def test_nobody_is_silent_while_the_bucket_does_not_list():
    world = World()
    one = running(world, log_timeout="3m")
    world.blobs.down = "no bucket"
    for _ in range(10):
        world.sweep(after=3 * MINUTE)
    assert world.run("r1").state is RunState.RUNNING
    assert not world.run("r1").ending
    world.blobs.down = None
    one.write("all the time")
    world.sweep(after=3 * MINUTE)
    assert not world.run("r1").ending
    check(world)


def test_one_item_that_cannot_be_handled_does_not_stop_the_rest():
    world = World()
    running(world, "w1", "r1", log_timeout="3m")
    running(world, "w2", "r2", run_timeout="5m")

    def fail(name: str) -> None:
        if name == "due":
            world.store.before = lambda call: None
            raise ValueError("a mistake of ours")

    world.store.before = fail
    reaped = world.sweep(after=10 * MINUTE)
    assert (reaped.due, reaped.failed) == (2, 1)
    assert sum(bool(world.run(name).ending) for name in ("r1", "r2")) == 1
    world.sweep(after=2 * MINUTE)
    assert all(world.run(name).ending for name in ("r1", "r2"))


def test_what_is_not_due_costs_nothing_to_look_past():
    world = World()
    for number in range(20):
        running(world, f"w{number}", f"r{number}", run_timeout="2h", log_timeout="2h")
    running(world, "late", "late", log_timeout="1m")
    world.sweep(after=10 * MINUTE)
    world.messenger.take()
    world.store.calls.clear()
    assert world.sweep(after=MINUTE).due == 1
    assert world.store.calls["due"] == 1


# The end of what is killed.


def test_a_kill_that_is_lost_is_sent_again_at_every_sweep():
    world = World()
    one = running(world, run_timeout="5m")
    world.sweep(after=9 * MINUTE + 1)
    for _ in range(3):
        assert len(kills(world)) == 1
        world.messenger.take()
        world.sweep(after=MINUTE)
    settle_down(world, one)
    assert world.run("r1").reason is Reason.RUN_TIMEOUT
    check(world)


def test_a_worker_that_reconnects_while_its_run_is_ending_is_told_to_kill_it():
    world = World()
    one = running(world, run_timeout="5m")
    world.sweep(after=9 * MINUTE + 1)
    world.messenger.take()
    one.register()
    settle_down(world, one)
    assert world.run("r1").reason is Reason.RUN_TIMEOUT
    check(world)


def test_a_kill_that_nobody_answers_ends_the_run_at_its_deadline_with_its_log_put_together():
    world = World()
    one = running(world, log_timeout="3m")
    one.write("first", "second", sequence=1)
    one.write("third", sequence=2)
    one.publish = unheard
    world.sweep(after=9 * MINUTE)
    deadline = timedelta(minutes=4, seconds=20).total_seconds()
    world.sweep(after=deadline - 1)
    assert world.run("r1").state is RunState.RUNNING
    world.wait(2)
    world.ring()
    ended = world.run("r1")
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.LOG_TIMEOUT)
    assert world.blobs.log_end(world.pool.id, ended.id, 1) is None
    world.sweep(after=1)
    ended = world.run("r1")
    assert ended.due_at is None
    assert [line["msg"] for line in log_of(world, ended)[:3]] == ["first", "second", "third"]
    last = log_of(world, ended)[-1]
    assert last["stream"] == "agent"
    assert "log_timeout" in last["msg"]
    assert ended.log
    assert (ended.log.lines, ended.log.complete) == (4, False)
    assert world.worker(one.worker_id).state is WorkerState.ASKED
    check(world)


def test_a_run_that_ended_well_as_it_was_to_be_killed_is_finished():
    world = World()
    one = running(world, log_timeout="3m")
    one.publish = unheard
    one.finish()
    world.sweep(after=8 * MINUTE)
    ended = world.run("r1")
    assert (ended.state, ended.reason, ended.exit_code) == (RunState.FINISHED, None, 0)
    assert kills(world) == []
    assert world.worker(one.worker_id).state is WorkerState.ASKED
    check(world)


def test_a_worker_whose_report_was_lost_is_asked_at_once_and_takes_the_next_run():
    world = World()
    one = running(world, log_timeout="3m")
    publish, one.publish = one.publish, unheard
    one.finish()
    waiting = world.submit("next")
    one.publish = publish
    world.sweep(after=8 * MINUTE)
    one.repeat()
    settle_down(world, one)
    assert one.begun[-1] == (waiting.id, 1)
    check(world)


def test_a_run_that_ended_well_after_its_kill_was_decided_is_finished_all_the_same():
    world = World()
    one = running(world, run_timeout="5m")
    world.sweep(after=9 * MINUTE + 1)
    one.publish = unheard
    one.finish()
    world.sweep(after=5 * MINUTE)
    assert world.run("r1").state is RunState.FINISHED
    check(world)


def test_a_killed_command_that_only_saw_a_signal_ends_with_the_decision_that_killed_it():
    world = World()
    one = running(world, run_timeout="5m")
    world.sweep(after=9 * MINUTE + 1)
    one.finish(Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=137))
    assert world.run("r1").reason is Reason.RUN_TIMEOUT


# Logs of attempts that nobody closed.


def lost(world: World, one: FakeAgent) -> Run:
    world.disconnect(one.worker_id)
    world.messenger.take()
    world.silence(after=400)
    return world.run("r1")


def test_a_broken_chunk_is_left_out_and_the_last_line_says_so():
    world = World()
    one = running(world)
    one.write("before", sequence=1)
    one.write("broken", sequence=2)
    one.write("after", sequence=3)
    key = next(key for key in world.blobs.objects if key.endswith("2.ndjson.gz"))
    world.blobs.write(key, world.blobs.objects[key].body[:-9])
    lines = log_of(world, lost(world, one))
    assert [line["msg"] for line in lines[:-1]] == ["before", "after"]
    assert "1 chunks could not be read" in lines[-1]["msg"]
    assert "worker_lost" in lines[-1]["msg"]


@pytest.mark.parametrize("body", [b"", b"not gzip", gzip.compress(b"x\n", mtime=0) + b"trailing"])
def test_what_is_no_chunk_at_all_does_not_spoil_the_log(body: bytes):
    world = World()
    one = running(world)
    one.write("good", sequence=1)
    run = world.run("r1")
    prefix = objects.chunk_prefix(world.pool.id, run.id, 1)
    world.blobs.write(prefix + objects.chunk_name(2), body)
    lines = log_of(world, lost(world, one))
    assert [line["msg"] for line in lines[:-1]] == ["good"]


def test_the_assembled_log_says_what_its_bytes_are():
    world = World()
    one = running(world)
    one.write("good")
    run = lost(world, one)
    end = world.blobs.log_end(world.pool.id, run.id, 1)
    assert end
    assert end.digest == run.log
    assert (end.outcome.end, end.outcome.reason) == ("FAILED", Reason.WORKER_LOST)
    body = world.blobs.objects[objects.log_key(world.pool.id, run.id, 1)].body
    assert end.digest.bytes == len(gzip.decompress(body))


def test_a_log_that_cannot_be_put_together_now_is_put_together_by_a_later_sweep():
    world = World()
    one = running(world, run_timeout="5m", log_timeout="2h")
    one.write("good")
    one.publish = unheard
    world.sweep(after=9 * MINUTE + 1)

    commits: list[str] = []

    def fail_behind_the_decision(name: str) -> None:
        # The first commit only moves the run out of the way of what else is due.
        if name == "commit":
            commits.append(name)
            world.blobs.down = "no bucket" if len(commits) > 1 else None

    world.store.before = fail_behind_the_decision
    world.sweep(after=5 * MINUTE)
    world.store.before = lambda name: None
    ended = world.run("r1")
    assert ended.is_final
    assert ended.due_at
    world.blobs.down = None
    world.sweep(after=3 * MINUTE)
    assert world.run("r1").due_at is None
    assert len(log_of(world, ended)) == 2


def test_a_final_log_that_the_worker_wrote_is_never_written_over():
    world = World()
    one = running(world)
    run = world.run("r1")
    one.write("chunk")
    key = objects.log_key(world.pool.id, run.id, 1)
    world.blobs.write(key, gzip.compress(b'{"msg":"whole"}\n'))
    lost(world, one)
    assert [line["msg"] for line in log_of(world, run)] == ["whole"]


# The pool's part of the sweep.


def test_a_sweep_wakes_what_waits_beside_an_idle_worker():
    world = World()
    world.submit()
    crash_before(world, "tickets")
    with pytest.raises(Crash):
        joined(world, "w1")
    crash_before(world, "nothing")
    assert world.run("r1").state is RunState.READY
    world.sweep(after=60)
    assert world.run("r1").state is RunState.PREPARING
    check(world)


def test_a_broker_that_is_down_does_not_stop_the_sweep_from_matching():
    world = World()
    (one,) = joined(world, "w1")
    world.disconnect(one.worker_id)
    world.submit()
    crash_before(world, "tickets")
    two = agent(world, "w2")
    with pytest.raises(Crash):
        two.register()
    crash_before(world, "nothing")
    assert world.run("r1").state is RunState.READY
    world.messenger.down = "no broker"
    world.sweep(after=5)
    assert world.counted("who_not_sent") == 1
    assert world.run("r1").worker == two.worker_id
    check(world)


def test_a_wake_up_for_an_item_that_is_not_there_or_not_due_changes_nothing():
    world = World()
    one = running(world)
    before = world.table.records()
    for key in (world.run("r1").key, world.worker(one.worker_id).key, Key("run#nobody", "run"), Key("x", "y")):
        body = {"schema": 1, "kind": "wake", "pool": world.pool.id, "pk": key.pk, "sk": key.sk}
        assert world.request(body, queue=QueueName.INTERNAL) == []
    assert world.table.records() == before
