"""The internal queue and the dead letters: `ports.Queue` over SQS."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from math import ceil
from typing import TYPE_CHECKING, cast

from botocore.exceptions import ClientError

from quaymaster.adapters.aws.errors import code_of, translated
from quaymaster.domain.wakes import Wake, encode_wake
from quaymaster.ports import DeadLetter, QueueName

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

MAX_DELAY = timedelta(minutes=15)
MAX_BODY_BYTES = 240 * 1024
"""Below what a queue takes (256 KiB), with room for the attributes."""

HIDDEN_SECONDS = 30
"""For how long a listing hides what it has read, so that the next read brings others; undone at its end."""

_BATCH = 10
_NOT_HIDDEN = ("MessageNotInflight", "ReceiptHandleIsInvalid")
"""Somebody took the letter out, or it was visible again before its turn came."""

_MAX_ATTRIBUTE = 1000


@cache
def _unsendable() -> re.Pattern[str]:
    """What no message may hold; compiled when it is needed, because so large a class takes 10 ms of a cold start.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
    """
    return re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class SqsQueue:
    """Fulfils `ports.Queue`."""

    def __init__(self, client: Callable[[], "SQSClient"], queue_url: str, dead_letter_url: str) -> None:
        self._client = client
        self.queue_url = queue_url
        self.dead_letter_url = dead_letter_url

    def wake(self, what: Wake, delay: timedelta) -> None:
        seconds = ceil(min(max(delay, timedelta(0)), MAX_DELAY).total_seconds())
        body = encode_wake(what).decode()
        with translated("sqs"):
            self._client().send_message(QueueUrl=self.queue_url, MessageBody=body, DelaySeconds=seconds)

    def refuse(self, body: str, reason: str, source: str, sender: str = "") -> None:
        """A body that no queue takes whole loses its end, and characters that none takes become question marks."""
        with translated("sqs"):
            self._client().send_message(
                QueueUrl=self.dead_letter_url,
                MessageBody=sendable(body) or "(empty)",
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": text}
                    for name, text in letter_attributes(reason, source, sender).items()
                },
            )

    def send(self, message: str) -> None:
        with translated("sqs"):
            self._client().send_message(QueueUrl=self.queue_url, MessageBody=message)

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        found: dict[str, DeadLetter] = {}

        def note(letter: DeadLetter) -> bool:
            found[letter.id] = letter
            return False

        self.sift_dead_letters(note, limit)
        return sorted(found.values(), key=lambda letter: letter.sent_at)

    def sift_dead_letters(self, done: Callable[[DeadLetter], bool], limit: int) -> int:
        hidden: list[str] = []
        judged: set[str] = set()
        try:
            # Until a long poll brings nothing new: what SQS says of the number of its messages may be a minute old.
            new = True
            while new and len(judged) < limit:
                messages = self._receive(limit - len(judged))
                letters = [self._letter(message) for message in messages]
                handles = [message.get("ReceiptHandle", "") for message in messages]
                hidden += handles
                new = any(letter.id not in judged for letter in letters)
                for handle, letter in zip(handles, letters, strict=True):
                    # A letter whose hiding ran out may come twice.
                    if letter.id not in judged and done(letter):
                        self._remove(handle)
                        hidden.remove(handle)
                    judged.add(letter.id)
        finally:
            self._show_again(hidden)
        return len(judged)

    def _receive(self, most: int) -> "list[MessageTypeDef]":
        with translated("sqs"):
            # A long poll asks all of the queue's servers; a short one may miss letters.
            answer = self._client().receive_message(
                QueueUrl=self.dead_letter_url,
                MaxNumberOfMessages=min(most, _BATCH),
                VisibilityTimeout=HIDDEN_SECONDS,
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["SentTimestamp", "DeadLetterQueueSourceArn", "SenderId"],
                MessageAttributeNames=["All"],
            )
        return answer.get("Messages", [])

    def _letter(self, message: "MessageTypeDef") -> DeadLetter:
        system = cast("dict[str, str]", message.get("Attributes", {}))
        attributes, source = message.get("MessageAttributes", {}), system.get("DeadLetterQueueSourceArn")
        return DeadLetter(
            id=message.get("MessageId", ""),
            sent_at=datetime.fromtimestamp(int(system.get("SentTimestamp", 0)) / 1000, tz=UTC),
            body=message.get("Body", ""),
            attributes={name: value["StringValue"] for name, value in attributes.items() if "StringValue" in value},
            moved_from=queue_of(source, self.queue_url) if source else None,
            sender=system.get("SenderId", ""),
        )

    def _remove(self, handle: str) -> None:
        with translated("sqs"):
            self._client().delete_message(QueueUrl=self.dead_letter_url, ReceiptHandle=handle)

    def _show_again(self, handles: list[str]) -> None:
        # One by one: the batch form is the same permission on AWS, but not everywhere.
        for handle in handles:
            with translated("sqs"):
                try:
                    self._client().change_message_visibility(
                        QueueUrl=self.dead_letter_url, ReceiptHandle=handle, VisibilityTimeout=0
                    )
                except ClientError as error:
                    if not _is_shown(error):
                        raise


def _is_shown(error: ClientError) -> bool:
    """Whether a letter is hidden no more, or no longer there: SQS has three answers for that, one told by its text."""
    deleted = code_of(error).endswith("InvalidParameterValue") and "does not exist or is not available" in str(error)
    return deleted or code_of(error).endswith(_NOT_HIDDEN)


def sendable(text: str) -> str:
    """The text as a queue takes it."""
    clean = _unsendable().sub("?", text)
    return clean.encode()[:MAX_BODY_BYTES].decode(errors="ignore")


def queue_of(arn: str, internal_url: str) -> QueueName:
    """Which of the two queues an ARN names: what is not the internal one is every requester's."""
    internal = arn.rpartition(":")[2] == internal_url.rpartition("/")[2]
    return QueueName.INTERNAL if internal else QueueName.REQUESTS


def letter_attributes(reason: str, source: str, sender: str) -> dict[str, str]:
    """What a refused message carries, as a queue takes it."""
    found = {"reason": reason or "unknown", "source": source or "unknown", "sender": sender}
    return {name: sendable(text)[:_MAX_ATTRIBUTE] for name, text in found.items() if text}
