"""Logs that nobody closed are put together by the sweep, within its time and its room; what fails waits longer."""

import gzip
import json
import tempfile
import zlib
from datetime import timedelta

import pytest
from quaymaster.dispatcher.logs import assemble
from quaymaster.dispatcher.logs.gzip_member import GzipMember
from quaymaster.dispatcher.reaper.due import reap
from quaymaster.domain import objects
from quaymaster.domain.messages import LogDigest, Outcome, PhaseFinished
from quaymaster.domain.run import Run, touched
from quaymaster.domain.states import Reason, RunState
from quaymaster.ports import QueueName, Replace

from tests.shared.memory.agents import FINISHED, FakeAgent, joined, running, settle_down, unheard
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World

MINUTE = 60.0


def messages_of(world: World, run: Run, attempt: int = 1) -> list[str]:
    body = world.blobs.objects[objects.log_key(world.pool.id, run.id, attempt)].body
    return [json.loads(line)["msg"] for line in gzip.decompress(body).splitlines()]


def report_without_log(one: FakeAgent, outcome: Outcome = FINISHED) -> None:
    """It ends its run, and could not ship its whole log."""
    assert one.held
    log = LogDigest(lines=9, bytes=99, complete=False)
    report = PhaseFinished(
        session=one.session, run=one.held.run, attempt=one.held.attempt, outcome=outcome, log=log, leaving=False
    )
    one.publish("phase_finished", report)


def lose(world: World, one: FakeAgent) -> Run:
    """Its worker goes, and an event says so: no sweep has been."""
    one.publish = unheard
    world.disconnect(one.worker_id)
    for silence in (400, 16):
        world.wait(silence)
        world.ring()
    return world.run("r1")


def end_of(world: World, attempt: int = 1):
    run = world.run("r1")
    return world.blobs.log_end(world.pool.id, run.id, attempt)


# What the worker could not ship.


def test_a_log_that_its_worker_could_not_ship_is_put_together_three_minutes_after_the_report():
    world = World()
    one = running(world)
    one.write("what had arrived")
    report_without_log(one)
    ended = world.run("r1")
    assert ended.state is RunState.FINISHED
    assert ended.due_at == world.now + timedelta(minutes=3)
    world.sweep(after=3 * MINUTE - 1)
    assert end_of(world) is None
    world.sweep(after=1)
    lines = messages_of(world, ended)
    assert lines[0] == "what had arrived"
    assert "FINISHED" in lines[-1]
    end = end_of(world)
    assert end
    assert (end.outcome.end, end.outcome.exit_code) == ("FINISHED", 0)
    assert (world.run("r1").log, world.run("r1").due_at) == (end.digest, None)
    check(world)


def test_a_log_whose_upload_went_on_behind_the_report_stays_as_its_worker_wrote_it():
    world = World()
    one = running(world)
    one.write("chunk")
    report_without_log(one)
    run = world.run("r1")
    whole = LogDigest(lines=5, bytes=50, sha256="b" * 64)
    marker = {"schema": 1, "run": run.id, "attempt": 1, "digest": whole.model_dump(), "outcome": {"end": "FINISHED"}}
    world.blobs.write(objects.log_end_key(world.pool.id, run.id, 1), json.dumps(marker).encode())
    world.sweep(after=4 * MINUTE)
    assert (world.run("r1").log, world.run("r1").due_at) == (whole, None)
    assert objects.log_key(world.pool.id, run.id, 1) not in world.blobs.objects


def test_a_run_whose_worker_closed_its_log_is_never_due_again():
    world = World()
    running(world).finish()
    assert world.run("r1").due_at is None


# Who puts logs together.


def test_an_event_that_ends_a_run_leaves_its_log_to_the_next_sweep():
    world = World()
    one = running(world)
    one.write("said")
    ended = lose(world, one)
    assert (ended.state, ended.reason, ended.due_at) == (RunState.FAILED, Reason.WORKER_LOST, world.now)
    assert end_of(world) is None
    wake = {"schema": 1, "kind": "wake", "pool": world.pool.id, "pk": ended.key.pk, "sk": ended.key.sk}
    assert world.request(wake, queue=QueueName.INTERNAL) == []
    assert end_of(world) is None
    world.sweep()
    assert messages_of(world, ended)[0] == "said"
    assert world.run("r1").due_at is None


def test_the_log_of_a_run_that_a_sweep_ends_is_put_together_in_the_same_sweep():
    world = World()
    one = running(world)
    one.write("said")
    one.publish = unheard
    world.disconnect(one.worker_id)
    world.silence(after=400)
    assert messages_of(world, world.run("r1"))[0] == "said"


def test_the_log_of_a_lost_attempt_is_put_together_while_the_next_one_runs():
    world = World()
    one = running(world, retryable=True)
    one.write("from the first")
    (two,) = joined(world, "w2")
    lost = lose(world, one)
    assert end_of(world) is None
    settle_down(world, two)
    assert two.begun == [(lost.id, 2)]
    world.sweep()
    end = end_of(world)
    assert end
    assert (end.outcome.reason, end.outcome.note) == (Reason.WORKER_LOST, "its worker is silent beyond its lease")
    assert messages_of(world, lost)[0] == "from the first"
    assert world.run("r1").state is RunState.RUNNING
    check(world)


def test_the_log_of_a_lost_attempt_is_kept_though_the_next_one_ends_before_a_sweep():
    world = World()
    one = running(world, retryable=True)
    one.write("from the first")
    (two,) = joined(world, "w2")
    lose(world, one)
    settle_down(world, two)
    two.finish()
    assert world.run("r1").state is RunState.FINISHED
    world.sweep()
    assert messages_of(world, world.run("r1"))[0] == "from the first"
    assert world.run("r1").due_at is None


# Time and room.


def test_a_sweep_that_is_out_of_time_leaves_the_rest_to_the_next():
    world = World()
    for number in range(3):
        running(world, f"w{number}", f"r{number}", run_timeout="5m")
    world.wait(10 * MINUTE)
    assert reap(world.ports, world.pools, world.now).due == 0
    assert world.counted("reap_cut_short") == 1
    assert reap(world.ports, world.pools, world.now + timedelta(seconds=1)).due == 3


def test_a_chunk_that_unpacks_beyond_the_logs_cap_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(assemble, "SLACK_BYTES", 0)
    world = World(log_cap_bytes=1 << 20)
    one = running(world)
    one.write("before", sequence=1)
    prefix = objects.chunk_prefix(world.pool.id, world.run("r1").id, 1)
    world.blobs.write(prefix + objects.chunk_name(2), gzip.compress(bytes(64 << 20)))
    lose(world, one)
    world.sweep()
    lines = messages_of(world, world.run("r1"))
    assert lines[0] == "before"
    assert len(lines) == 2
    assert "1 chunks could not be read or were too large" in lines[1]


def test_no_more_of_a_chunk_is_unpacked_than_there_is_room_for():
    member = GzipMember(room=1 << 20)
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        packer = zlib.compressobj(wbits=31)
        for _ in range(256):
            source.write(packer.compress(bytes(1 << 20)))
        source.write(packer.flush())
        source.seek(0)
        assert not member.copy(source, target)
    assert member.size <= 2 << 20


def test_a_log_that_kills_the_function_each_time_is_not_what_the_next_sweep_begins_with():
    world = World()
    one = running(world)
    one.write("deadly")
    lose(world, one)

    class Killed(BaseException):
        """The function ran out of its time."""

    def die(key: str) -> None:
        raise Killed

    world.blobs.read = die  # pyright: ignore[reportAttributeAccessIssue]
    waits: list[timedelta] = []
    for _ in range(7):
        with pytest.raises(Killed):
            world.sweep()
        due_at = world.run("r1").due_at
        assert due_at
        waits.append(due_at - world.now)
        world.now = due_at
    assert [wait / timedelta(minutes=1) for wait in waits] == [1, 2, 4, 8, 16, 30, 30]


# What cannot be handled.


def test_pushes_of_what_fails_again_grow_and_begin_anew_once_something_has_changed():
    world = World()
    running(world, log_timeout="3m")
    world.blobs.down = "no bucket"
    world.wait(10 * MINUTE)
    waits: list[float] = []
    for turn in range(5):
        world.sweep()
        run = world.run("r1")
        assert run.due_at
        waits.append((run.due_at - world.now) / timedelta(minutes=1))
        world.now = run.due_at
        if turn == 2:
            world.table.commit(Replace(touched(run)))
    assert waits == [1, 2, 4, 1, 2]


def test_an_item_that_cannot_be_read_does_not_end_the_reap():
    world = World()
    running(world, "w1", "r1", run_timeout="5m")
    running(world, "w2", "r2", run_timeout="5m")
    world.wait(10 * MINUTE)
    broken, due = world.run("r1").key, world.table.due

    def undecodable(key: object):
        if key == broken:
            raise ValueError("cannot be decoded")
        return due(key)  # pyright: ignore[reportArgumentType]

    world.table.due = undecodable  # pyright: ignore[reportAttributeAccessIssue]
    reaped = world.sweep()
    assert (reaped.due, reaped.failed) == (2, 1)
    assert world.run("r2").ending
    assert world.counted("not_reaped") == 1
