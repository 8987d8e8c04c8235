"""What every messenger promises: in memory, in moto, and in the local cloud's broker."""

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from quaymaster.adapters.iot.messenger import MAX_MESSAGE_BYTES, IotMessenger
from quaymaster.adapters.memory.messenger import MemoryMessenger
from quaymaster.domain.ids import topic_to
from quaymaster.domain.messages import Go, ToAgent, Who, read_to_agent
from quaymaster.domain.requests import Reply
from quaymaster.errors import Refused, Unavailable
from quaymaster.ports import Messenger

from tests.contract.aws import dead_client, moto_client, refusing_client
from tests.contract.conftest import BareCloud
from tests.shared.memory.records import POOL, a_worker

NAMESPACE = "contract"
WORKER = a_worker().id
GO = Go(session="s", run="r", attempt=2)


@dataclass(frozen=True)
class Line:
    """A messenger and what has been published through it since it was opened: topics and payloads."""

    messenger: Messenger
    published: Callable[[int], list[tuple[str, bytes]]]


def in_memory(_request: pytest.FixtureRequest) -> Iterator[Line]:
    messenger = MemoryMessenger(NAMESPACE)

    def published(_count: int) -> list[tuple[str, bytes]]:
        sent = [(topic_to(NAMESPACE, one.pool_id, one.worker_id), one.message.encode()) for one in messenger.sent]
        return sent + [(one.topic, one.message.encode()) for one in messenger.replies]

    yield Line(messenger, published)


def in_moto(request: pytest.FixtureRequest) -> Iterator[Line]:
    from moto.iotdata.models import iotdata_backends

    request.getfixturevalue("moto")
    client = moto_client("iot-data")
    backends: Any = iotdata_backends

    def published(_count: int) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = backends["123456789012"]["us-east-1"].published_payloads
        return found

    yield Line(IotMessenger(NAMESPACE, lambda: client), published)


def in_local_cloud(request: pytest.FixtureRequest) -> Iterator[Line]:
    """A rule of its own puts whatever is published into a queue."""
    cloud: BareCloud = request.getfixturevalue("bare_cloud")
    name = f"contract_{uuid4().hex}"
    sqs, iot, client = cloud.client("sqs"), cloud.client("iot"), cloud.client("iot-data")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    role = listener_role(cloud, name)
    levels = ", ".join(f"topic({level}) AS t{level}" for level in range(1, 5))
    sql = f"SELECT encode(*, 'base64') AS body, {levels} FROM '{NAMESPACE}/#'"
    action = {"sqs": {"queueUrl": queue, "roleArn": role, "useBase64": False}}
    iot.create_topic_rule(ruleName=name, topicRulePayload={"sql": sql, "actions": [action]})

    def published(count: int) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        for _ in range(20):
            answer = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                said = json.loads(message["Body"])
                topic = "/".join(said[f"t{level}"] for level in range(1, 5) if said.get(f"t{level}"))
                found.append((topic, b64decode(said["body"])))
            if len(found) >= count:
                return found
        raise AssertionError(f"{len(found)} of {count} messages came")

    yield Line(IotMessenger(NAMESPACE, lambda: client), published)
    iot.delete_topic_rule(ruleName=name)


def listener_role(cloud: BareCloud, name: str) -> str:
    """A role that rules may send to queues with."""
    iam = cloud.client("iam")
    trust = {
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"},
        ]
    }
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    policy = {"Statement": [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}]}
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
    return arn


@pytest.fixture(
    params=[
        pytest.param(in_memory, id="memory"),
        pytest.param(in_moto, id="moto"),
        pytest.param(in_local_cloud, id="local", marks=pytest.mark.local),
    ]
)
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    yield from request.param(request)


def test_a_message_goes_to_the_topic_of_its_worker_and_reads_back_as_it_was_sent(line: Line) -> None:
    line.messenger.send(POOL, WORKER, GO, timedelta(seconds=15))
    [(topic, payload)] = line.published(1)
    assert topic == f"{NAMESPACE}/to/{POOL}/{WORKER}"
    assert read_to_agent(payload) == GO


def test_each_listener_has_a_topic_of_its_own_and_all_is_one(line: Line) -> None:
    line.messenger.send(POOL, "all", Who())
    line.messenger.send(POOL, WORKER, GO)
    found = sorted(line.published(2))
    assert [(topic, read_to_agent(payload).kind) for topic, payload in found] == [
        (f"{NAMESPACE}/to/{POOL}/all", "who"),
        (f"{NAMESPACE}/to/{POOL}/{WORKER}", "go"),
    ]


def test_a_reply_goes_to_the_topic_that_the_requester_named(line: Line) -> None:
    line.messenger.reply(f"{NAMESPACE}/replies/ci/7", Reply(id="7", accepted=True, run="R"))
    [(topic, payload)] = line.published(1)
    assert topic == f"{NAMESPACE}/replies/ci/7"
    assert json.loads(payload) == {"schema": 1, "kind": "reply", "id": "7", "accepted": True, "run": "R"}


@pytest.mark.parametrize(
    "topic",
    [
        f"{NAMESPACE}/to/{POOL}/{WORKER}",
        f"{NAMESPACE}/replies/",
        f"{NAMESPACE}/replies/#",
        f"{NAMESPACE}/replies/+/a",
        f"other/replies/{NAMESPACE}",
        "$aws/things/a/shadow",
        f"{NAMESPACE}/replies/{'a' * 256}",
        f"{NAMESPACE}/replies/a/b/c/d/e/f/g",
    ],
)
def test_a_reply_to_any_other_topic_is_refused_and_names_the_field(line: Line, topic: str) -> None:
    with pytest.raises(Refused, match="reply_to"):
        line.messenger.reply(topic, Reply(accepted=True))


def test_a_message_that_no_broker_takes_is_refused(line: Line) -> None:
    with pytest.raises(Refused, match=str(MAX_MESSAGE_BYTES)):
        line.messenger.send(POOL, WORKER, Go(session="s" * MAX_MESSAGE_BYTES, run="r", attempt=1))


def failing(kind: str) -> Messenger:
    if kind == "memory":
        memory = MemoryMessenger()
        memory.down = "the broker is away"
        return memory
    client = dead_client("iot-data") if kind == "dead" else refusing_client("iot-data", "ThrottlingException", "slow")
    return IotMessenger("quaymaster", lambda: client)


@pytest.mark.parametrize("kind", ["memory", "dead", "throttled"])
def test_a_broker_that_does_not_answer_is_unavailable(kind: str) -> None:
    with pytest.raises(Unavailable, match="iot"):
        failing(kind).send(POOL, WORKER, GO)


@pytest.mark.parametrize(("life", "seconds"), [(timedelta(seconds=15), "15"), (timedelta(milliseconds=200), "1")])
def test_a_message_expires_at_the_broker_after_whole_seconds(moto: None, life: timedelta, seconds: str) -> None:
    client, sent = moto_client("iot-data"), list[dict[str, Any]]()
    client.meta.events.register("before-call.iot-data.Publish", lambda params, **_: sent.append(params))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType, reportUnknownMemberType]
    IotMessenger(NAMESPACE, lambda: client).send(POOL, WORKER, GO, life)
    assert str(sent[0]["query_string"]["messageExpiry"]) == seconds
    assert str(sent[0]["query_string"]["qos"]) == "1"
    assert "retain" not in sent[0]["query_string"]


def test_messages_wait_in_memory_until_they_are_taken() -> None:
    messenger = MemoryMessenger()
    messenger.send(POOL, WORKER, GO)
    messenger.send(POOL, "other", Who())
    taken: list[ToAgent] = messenger.take(WORKER)
    assert taken == [GO]
    assert messenger.take(WORKER) == []
    assert messenger.take() == [Who()]
