"""The queues: `ports.Queue`, and a reader of the dead letters."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, cast

from longshore.adapters.aws_errors import translated
from longshore.domain.dead_letters import DeadLetter, DeadLetters, RawLetter, read_letter, refusal_envelope
from longshore.domain.wakes import WakeMessage
from longshore.errors import Unavailable
from longshore.ports import Wake

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

MAX_DELAY = timedelta(minutes=15)
HIDDEN_SECONDS = 30
"""For how long a listing hides what it has read, so that the next read brings others; undone at its end."""
_BATCH = 10


class SqsQueue:
    """Fulfils `ports.Queue`."""

    def __init__(
        self, client: Callable[[], "SQSClient"], queue_url: str, dead_letter_url: str, clock: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._queue_url = queue_url
        self._dead_letter_url = dead_letter_url
        self._clock = clock

    def wake(self, what: Wake, delay: timedelta) -> None:
        body = wake_message(what).encode().decode()
        seconds = ceil(min(max(delay, timedelta(0)), MAX_DELAY).total_seconds())
        with translated("sqs"):
            self._client().send_message(QueueUrl=self._queue_url, MessageBody=body, DelaySeconds=seconds)

    def refuse(self, body: str, reason: str, source: str) -> None:
        envelope = refusal_envelope(body, reason, source, self._clock())
        with translated("sqs"):
            self._client().send_message(QueueUrl=self._dead_letter_url, MessageBody=envelope)


class SqsDeadLetters:
    """Reads the dead-letter queue and leaves everything in it."""

    def __init__(self, client: Callable[[], "SQSClient"], dead_letter_url: str) -> None:
        self._client = client
        self._url = dead_letter_url

    def list(self, limit: int) -> DeadLetters:
        """Up to `limit` dead letters, oldest first, and about how many there are. Raises Unavailable."""
        waiting = self._count()
        found: dict[str, DeadLetter] = {}
        handles: list[str] = []
        while len(found) < min(limit, waiting):
            messages = self._receive()
            if not messages:
                break
            for message in messages:
                handles.append(message.get("ReceiptHandle", ""))
                letter = read_letter(_raw(message))
                found[letter.id] = letter
        self._show_again(handles)
        letters = sorted(found.values(), key=lambda letter: letter.at)[:limit]
        return DeadLetters(letters=letters, total=max(waiting, len(found)))

    def _count(self) -> int:
        with translated("sqs"):
            said = self._client().get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessages"]
            )["Attributes"]
        return int(said.get("ApproximateNumberOfMessages", 0))

    def _receive(self) -> "list[MessageTypeDef]":
        with translated("sqs"):
            # A long poll asks all of the queue's servers; a short one may miss letters.
            answer = self._client().receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_BATCH,
                VisibilityTimeout=HIDDEN_SECONDS,
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
        return answer.get("Messages", [])

    def _show_again(self, handles: "list[str]") -> None:
        for start in range(0, len(handles), _BATCH):
            batch = handles[start : start + _BATCH]
            entries = [
                {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for index, handle in enumerate(batch)
            ]
            # What stays hidden comes back by itself.
            with contextlib.suppress(Unavailable), translated("sqs"):
                self._client().change_message_visibility_batch(QueueUrl=self._url, Entries=entries)


def wake_message(what: Wake) -> WakeMessage:
    """A wake-up as it travels."""
    return WakeMessage(
        pool=what.pool_id, pk=what.key.pk if what.key else None, sk=what.key.sk if what.key else None
    )


def _raw(message: "MessageTypeDef") -> RawLetter:
    system = cast("dict[str, str]", message.get("Attributes", {}))
    attributes = {
        name: value["StringValue"]
        for name, value in message.get("MessageAttributes", {}).items()
        if "StringValue" in value
    }
    return RawLetter(
        id=message.get("MessageId", ""),
        body=message.get("Body", ""),
        sent_at=datetime.fromtimestamp(int(system.get("SentTimestamp", 0)) / 1000, tz=UTC),
        moved_from=system.get("DeadLetterQueueSourceArn"),
        attributes=attributes,
    )
