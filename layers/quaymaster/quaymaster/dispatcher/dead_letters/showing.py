"""Dead letters: input that nothing came of, told apart by who wrote them, with the reason that each carries.

They come from several writers: the dispatcher's own refusals (attributes `reason` and `source`), SQS itself when a
message was received too often (nothing added), failed invocations (a Lambda destination's record), and rules,
EventBridge and Scheduler that could not deliver (their own attributes or records).
"""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any, cast

from quaymaster.dispatcher.dead_letters.bodies import read_mapping, request_in, tell
from quaymaster.domain.api import DeadLetterView
from quaymaster.ports import DeadLetter, FunctionName
from quaymaster.telling import describe

BODY_SHOWN = 300
EVENT_SOURCES = {
    "worker events": FunctionName.RECEIVE_WORKER_EVENTS,
    "task events": FunctionName.RECEIVE_TASK_EVENTS,
}
"""What a function writes beside an event that it refuses."""
OUR_ERRORS = frozenset({"Busy", "Lost", "NoCapacity", "NotFound", "Refused", "Throttled", "Unavailable"})
"""Whose words are ours, and repeat nothing."""
_TOO_OFTEN = "every delivery of it failed; the log of dispatch_runs says why"


class Writer(Enum):
    """Who put a letter into the queue, which decides how it is read and where it goes again."""

    QUEUE = auto()
    DISPATCHER = auto()
    EVENTS = auto()
    FUNCTION = auto()
    RULE = auto()
    EVENTBRIDGE = auto()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a letter comes from, in code and in words, and why nothing came of it."""

    writer: Writer
    source: str
    reason: str


def origin_of(letter: DeadLetter) -> Origin:
    """Who wrote a letter.

    What SQS moved is judged first: its body and attributes are a requester's, who could make them look like another
    writer's.
    """
    attributes = letter.attributes
    if letter.moved_from:
        return Origin(writer=Writer.QUEUE, source="sqs", reason=_TOO_OFTEN)
    if "reason" in attributes:
        source = attributes.get("source", "dispatcher")
        writer = Writer.EVENTS if source in EVENT_SOURCES else Writer.DISPATCHER
        return Origin(writer=writer, source=source, reason=attributes["reason"])
    if "ERROR_CODE" in attributes:
        # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html; Scheduler writes the same.
        said = attributes.get("ERROR_MESSAGE") or attributes["ERROR_CODE"]
        return Origin(writer=Writer.EVENTBRIDGE, source="eventbridge", reason=said)
    body = read_mapping(letter.body)
    if isinstance(context := body.get("requestContext"), dict) and "functionArn" in context:
        said = _invocation_failure(cast("dict[str, Any]", context), body)
        return Origin(writer=Writer.FUNCTION, source="function", reason=said)
    if isinstance(failures := body.get("failures"), list) and failures:
        # https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html
        first = cast("list[object]", failures)[0]
        told = cast("dict[str, object]", first) if isinstance(first, dict) else {}
        said = str(told.get("errorMessage", "the rule's action failed"))
        return Origin(writer=Writer.RULE, source="mqtt rule", reason=said)
    return Origin(writer=Writer.QUEUE, source="sqs", reason=_TOO_OFTEN)


def show_dead_letter(letter: DeadLetter, now: datetime) -> DeadLetterView:
    """A dead letter in a list, without what could be a secret."""
    origin = origin_of(letter)
    body = read_mapping(letter.body)
    request = request_in(body)
    return DeadLetterView(
        id=letter.id,
        at=letter.sent_at,
        age_seconds=max(0, int((now - letter.sent_at).total_seconds())),
        source=origin.source,
        reason=origin.reason,
        request_id=_text(request, "id"),
        pool=_text(request, "pool"),
        body=_shown(letter.body, request)[:BODY_SHOWN],
    )


def content_of(letter: DeadLetter) -> str:
    """All of a letter's body that may be shown: what was wrapped is unwrapped."""
    body = read_mapping(letter.body)
    return json.dumps(tell(body), indent=2) if body else describe(letter.body)


def _invocation_failure(context: dict[str, Any], body: dict[str, Any]) -> str:
    # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    payload = body.get("responsePayload")
    failure = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
    function = str(context["functionArn"]).removesuffix(":$LATEST").rpartition(":")[2]
    kind = failure.get("errorType")
    # The words of an error that nobody foresaw may repeat what it failed at.
    said = failure.get("errorMessage") if kind in OUR_ERRORS else kind
    return f"{function}: {said or context.get('condition', 'failed')}"


def _text(request: dict[str, Any], field: str) -> str | None:
    found = tell(request.get(field), field)
    return str(found)[:64] if request.get(field) is not None else None


def _shown(text: str, request: dict[str, Any]) -> str:
    return json.dumps(tell(request)) if request else describe(text)
