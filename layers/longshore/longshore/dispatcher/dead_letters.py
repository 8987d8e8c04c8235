"""Dead letters: input that nothing came of, read as far as it can be and shown with its reason.

They come from several writers: the dispatcher's own refusals (attributes `reason` and `source`), SQS itself when a
message was received too often (no attributes), failed invocations (a Lambda destination's record), and rules,
EventBridge and Scheduler that could not deliver (their own attributes or records).
"""

import base64
import binascii
import json
from typing import Any, cast

from longshore.domain.api import DeadLetterView
from longshore.ports import DeadLetter

BODY_SHOWN = 300
UNREADABLE_SHOWN = 40
_TOO_OFTEN = "every delivery of it failed; the log of dispatch_runs says why"


def show_dead_letter(letter: DeadLetter) -> DeadLetterView:
    """A dead letter as users see it; an environment's values are taken out."""
    body = _mapping(letter.body)
    source, reason = _origin(letter, body)
    request = _request_in(body)
    return DeadLetterView(
        id=letter.id,
        at=letter.sent_at,
        source=source,
        reason=reason,
        request_id=_text(request, "id"),
        pool=_text(request, "pool"),
        body=_shown(letter.body, body, request),
    )


def _origin(letter: DeadLetter, body: dict[str, Any]) -> tuple[str, str]:
    attributes = letter.attributes
    if "reason" in attributes:
        return attributes.get("source", "dispatcher"), attributes["reason"]
    if "ERROR_CODE" in attributes:
        # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html; Scheduler writes the same.
        return "eventbridge", attributes.get("ERROR_MESSAGE") or attributes["ERROR_CODE"]
    if isinstance(context := body.get("requestContext"), dict) and "functionArn" in context:
        return "function", _invocation_failure(cast("dict[str, Any]", context), body)
    if isinstance(failures := body.get("failures"), list) and failures:
        # https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html
        first = cast("list[dict[str, Any]]", failures)[0]
        return "mqtt rule", str(first.get("errorMessage", "the rule's action failed"))
    return "sqs", _TOO_OFTEN


def _invocation_failure(context: dict[str, Any], body: dict[str, Any]) -> str:
    # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    payload = body.get("responsePayload")
    failure = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
    function = str(context["functionArn"]).removesuffix(":$LATEST").rpartition(":")[2]
    return f"{function}: {failure.get('errorMessage') or context.get('condition', 'failed')}"


def _mapping(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _request_in(body: dict[str, Any]) -> dict[str, Any]:
    """The request itself: an MQTT rule wraps it as base64 in `body`."""
    wrapped = body.get("body")
    if not isinstance(wrapped, str):
        return body
    try:
        return _mapping(base64.b64decode(wrapped, validate=True).decode())
    except (binascii.Error, UnicodeDecodeError):
        return {}


def _text(request: dict[str, Any], field: str) -> str | None:
    found = request.get(field)
    return found[:64] if isinstance(found, str) else None


def _shown(text: str, body: dict[str, Any], request: dict[str, Any]) -> str:
    """A short form that holds no value of an environment: of anything but a request, only the fields' names."""
    if not body:
        return text[:UNREADABLE_SHOWN]
    if not {"command", "pool", "environment"} & set(request):
        return f"fields: {', '.join(body)}"[:BODY_SHOWN]
    shown = dict(request)
    if "environment" in shown:
        environment = shown["environment"]
        names = cast("dict[str, object]", environment) if isinstance(environment, dict) else {}
        shown["environment"] = dict.fromkeys(names, "***")
    return json.dumps(shown)[:BODY_SHOWN]
