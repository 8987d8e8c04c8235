"""Requests as they come in: in batches, twice, malformed, among others."""

import base64
import json
from dataclasses import dataclass

import pytest
from quaymaster.adapters.memory.weakness import NoWeakness, SeededWeakness, Trouble
from quaymaster.dispatcher.requests import queue_records
from quaymaster.domain import requests as domain_requests
from quaymaster.domain.messages import Assign
from quaymaster.domain.requests import RunRequest
from quaymaster.domain.states import RunState
from quaymaster.errors import Refused
from quaymaster.ports import Create, QueueName, Write

from tests.shared.memory.agents import joined, settle_down
from tests.shared.memory.invariants import check
from tests.shared.memory.world import Crash, World, crash_before

INTERNAL = QueueName.INTERNAL


@dataclass(frozen=True)
class Always:
    """A table that has the same trouble at every commit."""

    what: Trouble

    def trouble(self) -> Trouble:
        return self.what

    def lag(self) -> int:
        return 0


def request(name: str | None, **fields: object) -> dict[str, object]:
    found: dict[str, object] = {"schema": 1, "pool": "team-a", "command": ["true"], **fields}
    return found if name is None else {"id": name, **found}


def by_mqtt(body: object, client: str = "ci") -> str:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.dumps({"body": base64.b64encode(payload).decode(), "client_id": client, "received_at": 1})


def test_a_warm_batch_of_ten_costs_one_read_one_transaction_and_ten_publishes():
    world = World()
    joined(world, *(f"w{number}" for number in range(12)))
    world.submit("warm-up")
    world.store.calls.clear()
    world.messenger.sent.clear()
    assert world.request(*(request(f"r{number}") for number in range(10))) == []
    assert dict(world.store.calls) == {"idle": 1, "commit": 1}
    assert len(world.messenger.sent) == 10
    assert len({sent.worker_id for sent in world.messenger.sent}) == 10
    check(world)


def test_a_warm_dispatch_of_one_is_a_read_a_transaction_and_a_publish():
    world = World()
    joined(world, "w1", "w2")
    world.submit("warm-up")
    world.store.calls.clear()
    world.messenger.sent.clear()
    assert world.request(request("r1")) == []
    assert dict(world.store.calls) == {"idle": 1, "commit": 1}
    assert len(world.messenger.sent) == 1


def test_a_batch_with_fewer_idle_workers_than_runs_leaves_tickets_for_the_rest():
    world = World()
    joined(world, "w1", "w2")
    assert world.request(*(request(f"r{number}") for number in range(5))) == []
    states = [world.run(f"r{number}").state for number in range(5)]
    assert states.count(RunState.PREPARING) == 2
    assert states.count(RunState.READY) == 3
    check(world)


def test_a_request_that_comes_twice_leads_to_one_run_and_its_assignment_is_said_again():
    world = World()
    (one,) = joined(world, "w1", prompt=False)
    first = world.submit()
    world.messenger.sent.clear()
    world.wait(1)
    again = world.submit(command=["something", "else"])
    assert again == first
    (repeated,) = world.messenger.sent
    assert getattr(repeated.message, "command", None) == ["true"]
    settle_down(world, one)
    one.prepare()
    settle_down(world, one)
    one.finish()
    settle_down(world, one)
    ended = world.run("r1")
    assert world.submit() == ended
    assert one.begun == [(first.id, 1)]
    check(world)


def test_the_same_request_twice_in_one_batch_is_one_run_and_the_first_counts():
    world = World()
    joined(world, "w1", "w2")
    assert world.request(request("r1", command=["first"]), request("r1", command=["second"])) == []
    (sent,) = world.messenger.sent
    assert getattr(sent.message, "command", None) == ["first"]
    check(world)


def test_a_duplicate_finds_the_idle_worker_that_a_crashed_registration_left():
    world = World()
    world.submit()
    crash_before(world, "tickets")
    with pytest.raises(Crash):
        joined(world, "w1")
    crash_before(world, "nothing")
    assert world.run("r1").state is RunState.READY
    world.submit()
    assert world.run("r1").state is RunState.PREPARING
    check(world)


def test_requests_without_an_id_are_told_apart_by_their_messages():
    world = World()
    assert world.request(request(None), request(None)) == []
    assert len(world.table.tickets(world.pool.id, 10)) == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("not json", "request"),
        ("[1]", "request"),
        (request("bad", schema=7), "schema"),
        (request("bad", pool="nobody"), "pool"),
        (request("bad", log_timeout="7 minutes"), "log_timeout"),
        (request("bad", command=[]), "command"),
        (request("bad", run_timeout="1000h"), "run_timeout"),
        (request("bad", log_timeout="3h"), "log_timeout"),
        (request("bad", environment={f"BIG{n}": "x" * 100_000 for n in range(3)}), "request"),
        (json.dumps(request("bad", environment={"BIG": "界" * 45_000}), ensure_ascii=False), "environment.BIG"),
        (request("bad", command=["true", "x" * 131_072]), "command.1"),
        (request("bad", workspace={"key": "inputs/another/x/workspace.tar.gz"}), "workspace"),
        ({"schema": 1, "kind": "wake", "pool": "P"}, "kind"),
        ({"body": "e30=", "client_id": "ci"}, "pool"),
        ({"request": {}, "by": "api", "requester": "arn"}, "pool"),
    ],
)
def test_a_malformed_request_is_refused_once_with_its_field_and_the_others_go_through(body: object, field: str):
    world = World()
    joined(world, "w1", "w2")
    assert world.request(request("good"), body, request("fine")) == []
    assert world.run("good").state is RunState.PREPARING
    assert world.run("fine").state is RunState.PREPARING
    (letter,) = world.queue.refused
    assert field in letter.attributes["reason"]
    assert letter.attributes["source"] == "requests"


def test_a_refusal_that_cannot_be_kept_comes_again():
    world = World()
    world.queue.down = "no queue"
    assert world.request("not json") == ["message-1"]


def test_a_request_by_mqtt_is_answered_where_it_asked_to_be():
    world = World()
    topic = "quaymaster/replies/ci/1"
    good, bad = by_mqtt(request("r1", reply_to=topic)), by_mqtt(request("bad", command=[], reply_to=topic))
    assert world.request(good, bad, queue=INTERNAL) == []
    answers = {replied.message.id: replied for replied in world.messenger.replies}
    assert {replied.topic for replied in world.messenger.replies} == {topic}
    assert (answers["r1"].message.accepted, answers["r1"].message.run) == (True, world.run("r1").id)
    assert not answers["bad"].message.accepted
    assert "command" in (answers["bad"].message.error or "")


@pytest.mark.parametrize("topic", ["quaymaster/replies/other/1", "quaymaster/to/x/y", "quaymaster/replies/ci/#", "x"])
def test_a_client_may_not_have_answers_sent_to_others(topic: str):
    world = World()
    assert world.request(by_mqtt(request("r1", reply_to=topic)), queue=INTERNAL) == []
    assert world.messenger.replies == []
    assert len(world.queue.refused) == 1


def test_a_reply_that_cannot_be_sent_does_not_repeat_the_request():
    world = World()
    world.messenger.down = "no broker"
    assert world.request(by_mqtt(request("r1", reply_to="quaymaster/replies/ci")), queue=INTERNAL) == []
    assert world.run("r1").state is RunState.READY


def test_a_run_whose_worker_cannot_be_told_comes_again_and_is_then_announced():
    world = World()
    (one,) = joined(world, "w1")
    world.messenger.down = "no broker"
    body = request("r1")
    (again,) = world.request(body)
    assert again == "message-1"
    assert world.run("r1").state is RunState.PREPARING
    world.messenger.down = None
    assert world.request(body) == []
    settle_down(world, one)
    assert world.run("r1").state is RunState.RUNNING
    assert one.begun == [(world.run("r1").id, 1)]


def test_when_the_table_does_not_answer_only_what_is_unwritten_comes_again_and_refusals_stay_single():
    world = World()
    world.table.weakness = Always(Trouble.FAILED)
    assert world.request("not json", request("r1"), request("r2")) == ["message-2", "message-3"]
    assert len(world.queue.refused) == 1


def test_a_commit_that_was_made_although_its_answer_was_lost_is_found_on_redelivery():
    world = World()
    joined(world, "w1")
    world.table.weakness = Always(Trouble.UNANSWERED)
    assert world.request(request("r1")) == ["message-1"]
    world.table.weakness = NoWeakness()
    assert world.run("r1").state is RunState.PREPARING
    assert world.messenger.sent == []
    assert world.request(request("r1")) == []
    assert len(world.messenger.sent) == 1
    check(world)


def test_under_contention_a_batch_is_halved_until_it_goes_through():
    world = World(seed=3)
    joined(world, *(f"w{number}" for number in range(20)))
    world.table.weakness = SeededWeakness(random=world.random, busy=0.5)
    bodies = [request(f"r{number}") for number in range(10)]
    left = bodies
    for _ in range(20):
        again = world.request(*left)
        first = world._numbers - len(left)  # pyright: ignore[reportPrivateUsage]
        left = [left[int(name.removeprefix("message-")) - first - 1] for name in again]
        if not left:
            break
    assert left == []
    assert all(world.run(f"r{number}").state is RunState.PREPARING for number in range(10))
    check(world)


def test_a_wake_up_for_a_pool_matches_what_waits_there():
    world = World()
    world.submit()
    crash_before(world, "tickets")
    with pytest.raises(Crash):
        joined(world, "w1")
    crash_before(world, "nothing")
    assert world.request({"schema": 1, "kind": "wake", "pool": world.pool.id}, queue=INTERNAL) == []
    assert world.run("r1").state is RunState.PREPARING
    check(world)


def test_a_record_that_breaks_something_comes_again_alone(monkeypatch: pytest.MonkeyPatch):
    world = World()
    joined(world, "w1", "w2")
    read = domain_requests.read_request

    def reading(body: str | bytes) -> RunRequest:
        if b"poison" in (body if isinstance(body, bytes) else body.encode()):
            raise RecursionError("a mistake of ours")
        return read(body)

    monkeypatch.setattr(queue_records, "read_request", reading)
    again = world.request(request("good-1"), request("poison"), request("good-2"))
    assert len(again) == 1
    assert {world.run(name).state for name in ("good-1", "good-2")} == {RunState.PREPARING}
    assert any(event == "record_comes_again" and "RecursionError" in str(fields) for event, fields in world.logged)
    check(world)


def test_a_request_that_cannot_be_written_comes_again_alone(monkeypatch: pytest.MonkeyPatch):
    world = World()
    joined(world, "w1")
    commit = world.store.commit

    def committing(*writes: Write) -> None:
        if any(isinstance(write, Create) and "poison" in str(write) for write in writes):
            raise TypeError("cannot be stored")
        commit(*writes)

    monkeypatch.setattr(world.store, "commit", committing)
    again = world.request(*(request(name) for name in ("good-1", "poison", "good-2", "good-3")))
    assert len(again) == 1
    assert all(world.run(name).state in (RunState.PREPARING, RunState.READY) for name in ("good-1", "good-2", "good-3"))
    check(world)


def test_a_written_run_is_never_refused_because_its_worker_could_not_be_told(monkeypatch: pytest.MonkeyPatch):
    world = World()
    joined(world, "w1")

    def refusing(*_: object, **__: object) -> None:
        raise Refused("topic", "'w1'", "a worker of this deployment")

    with monkeypatch.context() as broken:
        broken.setattr(world.messenger, "send", refusing)
        assert world.request(request("r1")) == []
    assert world.run("r1").state is RunState.PREPARING
    assert not world.queue.refused
    world.messenger.sent.clear()
    world.sweep(after=120)
    assert any(isinstance(sent.message, Assign) for sent in world.messenger.sent)
    check(world)


def test_a_request_by_mqtt_without_an_id_is_refused_because_it_might_come_twice():
    world = World()
    joined(world, "w1")
    assert world.request(by_mqtt(request(None)), queue=INTERNAL) == []
    assert "id: found nothing" in str(world.queue.refused)
