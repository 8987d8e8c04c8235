"""Who asked for a run: the channel's word, never the message's."""

import base64
import json

import pytest
from quaymaster.dispatcher.dead_letters.resending import readdress
from quaymaster.dispatcher.users import views
from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.domain import ids
from quaymaster.domain.run import read_history
from quaymaster.domain.states import RunState
from quaymaster.ports import DeadLetter, QueueName

from tests.shared.memory.world import World

DEPLOYMENT = Deployment(namespace="quaymaster", ssm_prefix="/quaymaster/quaymaster", bucket="b")
INNER = {"schema": 1, "id": "r1", "pool": "team-a", "command": ["true"]}


def by_mqtt(request: object, client: str = "AROA1:ci", principal: str | None = "AROA1:ci") -> str:
    """What the rule makes of a publish."""
    body = base64.b64encode(json.dumps(request).encode()).decode()
    found = {"body": body, "client_id": client, "received_at": 1}
    return json.dumps(found if principal is None else {**found, "principal": principal})


def asked(world: World) -> tuple[str, str]:
    """The way on which the run's request came, and who sent it."""
    found = world.table.run_and_spec(ids.run_id(world.pool.id, "r1"))
    assert found
    shown = views.show_run(found, world.pool, DEPLOYMENT, world.now)
    assert shown.requester == found[1].requester
    return read_history(found[0])[0].by, shown.requester


def test_of_a_message_in_the_request_queue_sqs_says_who_sent_it() -> None:
    world = World()
    assert world.request(INNER) == []
    assert asked(world) == ("sqs", "AIDA")


@pytest.mark.parametrize(
    ("client", "principal", "told"),
    [
        ("AROA1:ci", "AROA1:ci", "AROA1:ci"),
        ("ci", "9c1185a5", "ci (9c1185a5)"),
        ("ci", None, "ci"),
    ],
)
def test_of_a_publish_the_rule_says_client_and_principal(client: str, principal: str | None, told: str) -> None:
    world = World()
    assert world.request(by_mqtt(INNER, client, principal), queue=QueueName.INTERNAL) == []
    assert asked(world) == ("mqtt", told)


def test_of_a_request_through_the_api_its_function_says_who_signed() -> None:
    world = World()
    said = {"request": INNER, "by": "api", "requester": "arn:aws:iam::1:user/ann"}
    assert world.request(said, queue=QueueName.INTERNAL) == []
    assert asked(world) == ("api", "arn:aws:iam::1:user/ann")


@pytest.mark.parametrize(
    "forged",
    [
        by_mqtt(INNER, "somebody-else"),
        {"request": INNER, "by": "api", "requester": "arn:aws:iam::1:root"},
        {**INNER, "requester": "arn:aws:iam::1:root"},
        {**INNER, "by": "api"},
        {**INNER, "SenderId": "AROA"},
    ],
)
def test_who_asked_cannot_be_said_in_the_request_queue(forged: object) -> None:
    world = World()
    assert world.request(forged) == []
    assert world.table.run(ids.run_id(world.pool.id, "r1")) is None
    (letter,) = world.queue.refused
    assert (letter.attributes["source"], letter.attributes["sender"]) == ("requests", "AIDA")


def test_a_wake_up_in_the_request_queue_wakes_nothing() -> None:
    world = World()
    world.submit()
    before = world.table.records()
    world.store.calls.clear()
    key = world.run("r1").key
    forged = {"schema": 1, "kind": "wake", "pool": world.pool.id, "pk": key.pk, "sk": key.sk}
    assert world.request(forged) == []
    assert dict(world.store.calls) == {}
    assert world.table.records() == before
    assert len(world.queue.refused) == 1


@pytest.mark.parametrize(
    "body", ["{}", "[]", "no JSON", json.dumps(INNER), '{"request": [], "by": "api", "requester": "x"}']
)
def test_what_nobody_wraps_is_refused_in_the_internal_queue(body: str) -> None:
    world = World()
    assert world.request(body, queue=QueueName.INTERNAL) == []
    (letter,) = world.queue.refused
    assert letter.attributes["reason"].startswith("message: found ")
    assert letter.attributes["source"] == "internal"


def refused_letter(world: World) -> DeadLetter:
    """A request that was refused because its pool was not there yet, as it lies among the dead letters."""
    assert world.request({**INNER, "pool": "not-yet"}) == []
    (letter,) = world.queue.refused
    world.queue.refused.clear()
    return DeadLetter(
        id=letter.id,
        sent_at=letter.sent_at,
        body=json.dumps(INNER),
        attributes=letter.attributes,
        sender="AROAAPI:api",
    )


def test_a_request_that_is_sent_again_is_still_asked_for_by_whoever_sent_it_at_first() -> None:
    world = World()
    world.queue.send(readdress(world.ports, refused_letter(world)).body)
    assert world.ring() == []
    assert asked(world) == ("sqs", "AIDA")
    assert world.run("r1").state is RunState.READY


def test_so_is_one_that_sqs_moved_whatever_stands_in_it() -> None:
    world = World()
    moved = DeadLetter(
        id="m1",
        sent_at=world.now,
        body=json.dumps(INNER),
        attributes={"sender": "arn:aws:iam::1:root", "source": "internal"},
        moved_from=QueueName.REQUESTS,
        sender="AIDA2",
    )
    world.queue.send(readdress(world.ports, moved).body)
    assert world.ring() == []
    assert asked(world) == ("sqs", "AIDA2")


def test_and_one_that_came_by_mqtt() -> None:
    world = World()
    moved = DeadLetter(
        id="m1",
        sent_at=world.now,
        body=by_mqtt(INNER),
        attributes={},
        moved_from=QueueName.INTERNAL,
        sender="AROARULE:x",
    )
    world.queue.send(readdress(world.ports, moved).body)
    assert world.ring() == []
    assert asked(world) == ("mqtt", "AROA1:ci")
