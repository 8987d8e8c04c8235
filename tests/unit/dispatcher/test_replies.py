"""Requesters hear how their runs ended, whoever ended them and whatever failed meanwhile."""

from datetime import timedelta
from typing import Any

import pytest
from quaymaster.dispatcher.steering.cancel import cancel_run
from quaymaster.domain.messages import LogDigest, Outcome, PhaseFinished
from quaymaster.domain.requests import EndReply, Reply
from quaymaster.domain.run import Run
from quaymaster.domain.states import Reason, RunState
from quaymaster.errors import Unavailable

from tests.shared.memory.agents import running
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World

TOPIC = "quaymaster/replies/ci"


def asked(on: str) -> dict[str, Any]:
    return {"reply_to": TOPIC, "reply_on": on}


def heard(world: World) -> list[Reply | EndReply]:
    """What the requester has heard, once."""
    accepted = [replied.message for replied in world.messenger.replies if replied.topic == TOPIC]
    ended = [message for topic, message in world.messenger.ends if topic == TOPIC]
    world.messenger.replies.clear()
    world.messenger.ends.clear()
    return [*accepted, *ended]


@pytest.mark.parametrize(("on", "kinds"), [("accepted", ["reply"]), ("ended", ["ended"]), ("both", ["reply", "ended"])])
def test_a_requester_hears_what_it_asked_for(on: str, kinds: list[str]):
    world = World()
    running(world, **asked(on)).finish(Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=3))
    found = heard(world)
    assert [message.kind for message in found] == kinds
    if isinstance(found[-1], EndReply):
        run = world.run("r1")
        assert found[-1].model_dump(exclude={"note"}) == {
            "schema_version": 1,
            "kind": "ended",
            "id": "r1",
            "run": run.id,
            "state": RunState.FAILED,
            "reason": Reason.EXIT_CODE,
            "exit_code": 3,
            "attempt": 1,
            "log": f"logs/{world.pool.id}/{run.id}/000001/log.ndjson.gz",
        }
    assert not world.run("r1").owes_reply
    assert world.run("r1").due_at is None
    for _ in range(3):
        world.sweep(after=61)
    assert heard(world) == []


def test_a_broker_that_does_not_answer_is_asked_again_by_the_sweep():
    world = World()
    one = running(world, **asked("ended"))
    world.messenger.down = "away"
    with pytest.raises(Unavailable):
        # The agent's own answer cannot be sent either.
        one.finish()
    for _ in range(3):
        world.sweep(after=61)
    run = world.run("r1")
    assert (run.state, run.owes_reply, run.due_at is not None) == (RunState.FINISHED, True, True)
    world.messenger.down = None
    for _ in range(5):
        world.sweep(after=61)
    assert [message.kind for message in heard(world)] == ["ended"]
    check(world)


def test_a_function_that_dies_before_it_tells_leaves_it_to_the_sweep():
    world = World()
    one = running(world, **asked("ended"))
    told = world.messenger.reply

    def die(*_: object) -> None:
        raise RuntimeError("killed")

    world.messenger.reply = die  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        one.finish()
    world.messenger.reply = told  # type: ignore[method-assign]
    world.sweep(after=61)
    assert [message.kind for message in heard(world)] == ["ended"]


def lost(world: World) -> Run:
    running(world, **asked("ended"))
    for _ in range(90):
        world.messenger.sent.clear()
        world.sweep(after=61)
    return world.run("r1")


def expired(world: World) -> Run:
    world.submit("r1", **asked("ended"))
    world.sweep(after=timedelta(hours=24).total_seconds() + 61)
    return world.run("r1")


def canceled(world: World) -> Run:
    run = world.submit("r1", **asked("ended"))
    return cancel_run(world.ports, run.id, "alice")


def without_its_whole_log(world: World) -> Run:
    one = running(world, **asked("ended"))
    one.finish(marker=False)
    return world.run("r1")


@pytest.mark.parametrize("end", [lost, expired, canceled, without_its_whole_log])
def test_whatever_ends_a_run_is_told(end: Any):
    world = World()
    run = end(world)
    for _ in range(6):
        world.sweep(after=61)
    (message,) = heard(world)
    assert isinstance(message, EndReply)
    assert (message.state, message.reason) == (run.state, run.reason)
    assert run.is_final
    assert world.run("r1").due_at is None
    assert world.counted("not_reaped") == 0


def test_a_log_that_is_still_to_be_put_together_is():
    world = World()
    one = running(world, **asked("ended"))
    one.write("a line")
    held = one.held
    assert held
    world.hear(one.worker_id, "phase_finished", report_without_log(one.session, held.run))
    assert [message.kind for message in heard(world)] == ["ended"]
    for _ in range(6):
        world.sweep(after=61)
    assert world.run("r1").log
    assert any(key.endswith("log.ndjson.gz") for key in world.blobs.objects)
    assert heard(world) == []


def report_without_log(session: str, run: str) -> PhaseFinished:
    outcome = Outcome(end="FINISHED", exit_code=0)
    return PhaseFinished(session=session, run=run, attempt=1, outcome=outcome, log=LogDigest(complete=False))


def test_to_be_told_of_the_end_somebody_must_say_where():
    world = World()
    body = {"schema": 1, "id": "r1", "pool": world.pool.name, "command": ["true"], "reply_on": "ended"}
    assert world.request(body) == []
    assert [str(letter.attributes["reason"]) for letter in world.queue.refused] == [
        "reply_on: found ended; a topic in reply_to, for somebody to hear it"
    ]
