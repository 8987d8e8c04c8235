"""What every queue promises: in memory, in moto, and in the local cloud's SQS."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from quaymaster.adapters.memory.queue import MemoryQueue
from quaymaster.adapters.sqs.queue import MAX_BODY_BYTES, SqsQueue
from quaymaster.domain import keys
from quaymaster.domain.wakes import Wake, read_wake
from quaymaster.errors import Refused, Unavailable
from quaymaster.ports import DeadLetter, Queue, QueueName

from tests.contract.aws import dead_client, moto_client, refusing_client
from tests.contract.conftest import BareCloud
from tests.shared.memory.records import NOW, POOL, a_run

WAKE = Wake(POOL, keys.run(a_run().id))
NOT_YET = timedelta(0)


@dataclass(frozen=True)
class Inbox:
    """A queue and the bodies that it has delivered, and hidden, since it was asked last."""

    queue: Queue
    receive: Callable[[], list[str]]


def in_memory(_request: pytest.FixtureRequest) -> Iterator[Inbox]:
    queue = MemoryQueue(lambda: NOW)
    yield Inbox(queue, queue.take)


def in_sqs(client: Any) -> Inbox:
    name = f"contract-{uuid4().hex}"
    requests = client.create_queue(QueueName=name)["QueueUrl"]
    letters = client.create_queue(QueueName=f"{name}-dead-letters")["QueueUrl"]

    def receive() -> list[str]:
        answer = client.receive_message(QueueUrl=requests, MaxNumberOfMessages=10)
        return [message["Body"] for message in answer.get("Messages", [])]

    return Inbox(SqsQueue(lambda: client, requests, letters), receive)


def in_moto(request: pytest.FixtureRequest) -> Iterator[Inbox]:
    request.getfixturevalue("moto")
    yield in_sqs(moto_client("sqs"))


def in_local_cloud(request: pytest.FixtureRequest) -> Iterator[Inbox]:
    cloud: BareCloud = request.getfixturevalue("bare_cloud")
    yield in_sqs(cloud.client("sqs"))


@pytest.fixture(
    params=[
        pytest.param(in_memory, id="memory"),
        pytest.param(in_moto, id="moto"),
        pytest.param(in_local_cloud, id="local", marks=pytest.mark.local),
    ]
)
def inbox(request: pytest.FixtureRequest) -> Iterator[Inbox]:
    yield from request.param(request)


@pytest.mark.parametrize("wake", [WAKE, Wake(POOL)])
def test_a_wake_up_reads_back_as_it_was_rung(inbox: Inbox, wake: Wake) -> None:
    inbox.queue.wake(wake, NOT_YET)
    [body] = inbox.receive()
    assert read_wake(body) == wake


def test_a_delayed_wake_up_is_not_there_at_once(inbox: Inbox) -> None:
    inbox.queue.wake(WAKE, timedelta(minutes=5))
    assert inbox.receive() == []


def test_a_delay_beyond_what_queues_can_is_cut_to_it(inbox: Inbox) -> None:
    inbox.queue.wake(WAKE, timedelta(hours=3))
    assert inbox.receive() == []


def test_a_request_arrives_as_it_was_sent(inbox: Inbox) -> None:
    inbox.queue.send('{"pool": "team-a", "command": ["echo", "ä"]}')
    assert inbox.receive() == ['{"pool": "team-a", "command": ["echo", "ä"]}']


def test_a_refused_body_lies_with_its_reason_and_source_among_the_dead_letters(inbox: Inbox) -> None:
    inbox.queue.refuse("{not JSON", "request: found '{not JSON'; a JSON object", "requests")
    [letter] = inbox.queue.dead_letters(10)
    assert letter.body == "{not JSON"
    assert letter.attributes == {"reason": "request: found '{not JSON'; a JSON object", "source": "requests"}
    assert letter.sent_at.tzinfo
    assert inbox.receive() == []


def test_listing_dead_letters_leaves_them_where_they_are(inbox: Inbox) -> None:
    for number in range(23):
        inbox.queue.refuse(f"body {number}", "no good", "requests")
    first, second = inbox.queue.dead_letters(100), inbox.queue.dead_letters(100)
    assert {letter.body for letter in first} == {f"body {number}" for number in range(23)}
    assert len(first) == 23
    assert [letter.id for letter in second] == [letter.id for letter in first]
    assert [letter.sent_at for letter in first] == sorted(letter.sent_at for letter in first)


READER = [
    "sqs:SendMessage",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ChangeMessageVisibility",
]


@pytest.mark.local
def test_listing_dead_letters_needs_no_more_than_the_permissions_of_the_api(bare_cloud: BareCloud) -> None:
    iam, name = bare_cloud.client("iam"), f"reader-{uuid4().hex}"
    trust = '{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}'
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    policy = {"Statement": [{"Effect": "Allow", "Action": READER, "Resource": "*"}]}
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
    client = bare_cloud.client_as(role, "sqs")
    queue = in_sqs(bare_cloud.client("sqs")).queue
    assert isinstance(queue, SqsQueue)
    reader = SqsQueue(lambda: client, queue.queue_url, queue.dead_letter_url)
    for number in range(12):
        reader.refuse(f"body {number}", "no good", "requests")
    assert len(reader.dead_letters(100)) == 12
    assert len(reader.dead_letters(100)) == 12
    assert reader.sift_dead_letters(lambda letter: True, 100) == 12
    assert reader.dead_letters(100) == []


def test_a_letter_that_cannot_be_shown_again_is_not_hidden_in_silence(moto: None) -> None:
    client = moto_client("sqs")
    queue = in_sqs(client).queue
    queue.refuse("body", "no good", "requests")
    refusing = refusing_client("sqs", "AccessDenied", "not authorized to perform: sqs:ChangeMessageVisibility", 403)
    client.change_message_visibility = refusing.change_message_visibility
    with pytest.raises(Unavailable, match="ChangeMessageVisibility"):
        queue.dead_letters(10)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ReceiptHandleIsInvalid", "gone"),
        ("AWS.SimpleQueueService.MessageNotInflight", "gone"),
        (
            "InvalidParameterValue",
            "Value AQEB for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for "
            "visibility timeout change.",
        ),
    ],
)
def test_a_letter_that_is_visible_or_gone_already_needs_no_showing(moto: None, code: str, message: str) -> None:
    client = moto_client("sqs")
    queue = in_sqs(client).queue
    queue.refuse("body", "no good", "requests")
    client.change_message_visibility = refusing_client("sqs", code, message).change_message_visibility
    assert [letter.body for letter in queue.dead_letters(10)] == ["body"]


class Sparse:
    """A queue as SQS is: an answer holds some of its letters only, and what it says of their number is old."""

    def __init__(self, *answers: list[int]) -> None:
        self.answers = list(answers)

    def receive_message(self, MaxNumberOfMessages: int, WaitTimeSeconds: int, **_: Any) -> dict[str, Any]:
        """The next of the answers; beyond them, nothing."""
        assert WaitTimeSeconds > 0
        found = self.answers.pop(0) if self.answers else []
        assert len(found) <= MaxNumberOfMessages
        return {"Messages": [{"MessageId": str(n), "ReceiptHandle": f"{n}", "Body": str(n)} for n in found]}

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        """What was so a minute ago."""
        return {"Attributes": {"ApproximateNumberOfMessages": "0"}}

    def change_message_visibility(self, **_: Any) -> dict[str, Any]:
        """As if it were shown again."""
        return {}

    delete_message = change_message_visibility


def test_letters_are_read_until_a_long_poll_brings_none() -> None:
    sparse: Any = Sparse([1], [2, 3], [4])
    assert len(SqsQueue(lambda: sparse, "requests", "letters").dead_letters(100)) == 4
    assert sparse.answers == []


def test_letters_whose_hiding_ran_out_do_not_keep_a_listing_going() -> None:
    sparse: Any = Sparse([1, 2], [3, 1], *([1, 2, 3] for _ in range(1000)))
    seen: list[str] = []
    queue = SqsQueue(lambda: sparse, "requests", "letters")
    assert queue.sift_dead_letters(lambda letter: bool(seen.append(letter.id)), 100) == 3
    assert seen == ["1", "2", "3"]
    assert len(sparse.answers) == 999


def test_no_more_dead_letters_are_read_than_asked_for(inbox: Inbox) -> None:
    assert inbox.queue.dead_letters(5) == []
    for number in range(7):
        inbox.queue.refuse(f"body {number}", "no good", "requests")
    assert len(inbox.queue.dead_letters(5)) == 5


def test_sifting_removes_what_is_done_with_and_leaves_the_rest(inbox: Inbox) -> None:
    for number in range(23):
        inbox.queue.refuse(f"body {number}", "no good", "requests")
    seen: list[str] = []

    def done(letter: DeadLetter) -> bool:
        seen.append(letter.body)
        return int(letter.body.removeprefix("body ")) % 2 == 0

    assert inbox.queue.sift_dead_letters(done, 100) == 23
    assert sorted(seen) == sorted(f"body {number}" for number in range(23))
    left = {letter.body for letter in inbox.queue.dead_letters(100)}
    assert left == {f"body {number}" for number in range(1, 23, 2)}


def test_sifting_looks_at_no_more_than_it_may(inbox: Inbox) -> None:
    for number in range(12):
        inbox.queue.refuse(f"body {number}", "no good", "requests")
    assert inbox.queue.sift_dead_letters(lambda letter: True, 5) == 5
    assert len(inbox.queue.dead_letters(100)) == 7


def test_a_letter_whose_handling_fails_stays_and_so_do_those_behind_it(inbox: Inbox) -> None:
    for number in range(3):
        inbox.queue.refuse(f"body {number}", "no good", "requests")

    def fail(letter: DeadLetter) -> bool:
        raise Unavailable("sqs", "not now")

    with pytest.raises(Unavailable, match="not now"):
        inbox.queue.sift_dead_letters(fail, 10)
    assert len(inbox.queue.dead_letters(10)) == 3


@pytest.mark.local
def test_a_letter_that_sqs_moved_says_so_and_keeps_its_id_whatever_its_sender_wrote(bare_cloud: BareCloud) -> None:
    client = bare_cloud.client("sqs")
    queue = in_sqs(client).queue
    assert isinstance(queue, SqsQueue)
    letters = client.get_queue_attributes(QueueUrl=queue.dead_letter_url, AttributeNames=["QueueArn"])["Attributes"]
    policy = json.dumps({"deadLetterTargetArn": letters["QueueArn"], "maxReceiveCount": 1})
    client.set_queue_attributes(QueueUrl=queue.queue_url, Attributes={"RedrivePolicy": policy})
    forged = {"reason": {"DataType": "String", "StringValue": "forged"}}
    sent = client.send_message(QueueUrl=queue.queue_url, MessageBody="{}", MessageAttributes=forged)["MessageId"]
    for _ in range(3):
        client.receive_message(QueueUrl=queue.queue_url, VisibilityTimeout=0)
    queue.refuse("{}", "no good", "requests")
    found = {letter.id: letter.moved_from for letter in queue.dead_letters(10)}
    assert found.pop(sent) is QueueName.INTERNAL
    assert list(found.values()) == [None]


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("", "(empty)"),
        ("a\0b\x1bc\ud800d\ufffe", "a?b?c?d?"),
        ("\t\r\n ä 😀", "\t\r\n ä 😀"),
        ("ä" * 300_000, "ä" * (MAX_BODY_BYTES // 2)),
    ],
)
def test_a_body_that_no_queue_takes_is_kept_as_far_as_it_can_be(inbox: Inbox, body: str, kept: str) -> None:
    inbox.queue.refuse(body, "\0" * 5000, "")
    [letter] = inbox.queue.dead_letters(1)
    assert letter.body == kept
    assert letter.attributes["source"] == "unknown"
    assert letter.attributes["reason"].startswith("?")


def away(kind: str) -> Queue:
    if kind == "memory":
        memory = MemoryQueue(lambda: NOW)
        memory.down = "the queue is away"
        return memory
    client = dead_client("sqs") if kind == "dead" else refusing_client("sqs", "RequestThrottled", "slow")
    return SqsQueue(lambda: client, "http://127.0.0.1:1/1/q", "http://127.0.0.1:1/1/d")


CALLS: Mapping[str, Callable[[Queue], object]] = {
    "wake": lambda queue: queue.wake(WAKE, NOT_YET),
    "send": lambda queue: queue.send("{}"),
    "refuse": lambda queue: queue.refuse("{}", "no good", "requests"),
    "dead_letters": lambda queue: queue.dead_letters(1),
    "sift_dead_letters": lambda queue: queue.sift_dead_letters(lambda letter: True, 1),
}


@pytest.mark.parametrize("kind", ["memory", "dead", "throttled"])
@pytest.mark.parametrize("call", CALLS)
def test_a_queue_that_does_not_answer_is_unavailable(kind: str, call: str) -> None:
    with pytest.raises(Unavailable, match="sqs"):
        CALLS[call](away(kind))


@pytest.mark.parametrize("body", ["", "{", "[]", '"wake"', "{}", '{"kind": "run"}', "[" * 100_000])
def test_what_is_no_wake_up_is_left_to_others(body: str) -> None:
    assert read_wake(body) is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"kind": "wake"}', "pool"),
        ('{"kind": "wake", "pool": "P", "schema": 99}', "schema"),
        ('{"kind": "wake", "pool": "P", "pk": "run#R"}', "request"),
        ('{"kind": "wake", "pool": 1}', "pool"),
    ],
)
def test_a_malformed_wake_up_is_refused_and_names_the_field(body: str, field: str) -> None:
    with pytest.raises(Refused) as refused:
        read_wake(body)
    assert refused.value.field == field


def test_wake_ups_in_memory_come_when_their_time_has() -> None:
    now = [NOW]
    queue = MemoryQueue(lambda: now[0])
    queue.wake(Wake(POOL), timedelta(seconds=30))
    queue.send("first")
    assert queue.take() == ["first"]
    assert queue.next_at == NOW + timedelta(seconds=30)
    now[0] += timedelta(seconds=30)
    assert [read_wake(body) for body in queue.take()] == [Wake(POOL)]
    assert queue.next_at is None
