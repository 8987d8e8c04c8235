"""Dead letters: everything that was refused or could not be handled, in one form.

Five kinds come to the queue: what a function refused (with its reason), what SQS moved there after too many
deliveries, what Lambda, an IoT rule or EventBridge could not deliver.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from pydantic import AwareDatetime

from longshore.domain.messages import SCHEMA, Value

MAX_EXCERPT = 400
MAX_ENVELOPE_BYTES = 240 * 1024
"""Below what a queue takes (256 KiB), with room for what JSON's escapes may add."""


@dataclass(frozen=True, kw_only=True)
class RawLetter:
    """A message as the queue holds it; `moved_from` is the queue that SQS itself moved it from."""

    id: str
    body: str
    sent_at: datetime
    moved_from: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])


class DeadLetter(Value):
    """One dead letter, for people: why it is here, since when, where it came from, and how its body begins."""

    id: str
    at: AwareDatetime
    source: str
    reason: str
    body: str


class DeadLetters(Value):
    """Those that were read, oldest first, and about how many there are."""

    letters: list[DeadLetter]
    total: int


class DeadLetterBox(Protocol):
    """Where dead letters are read; reading takes nothing out."""

    def list(self, limit: int) -> DeadLetters:
        """Up to `limit` letters. Raises Unavailable."""
        ...


def refusal_envelope(body: str, reason: str, source: str, at: datetime) -> str:
    """A refused input, with why, from where and when, as it lies in the queue. A huge body loses its end."""
    said = {"schema": SCHEMA, "kind": "refused", "reason": reason[:2000], "source": source, "at": at.isoformat()}
    whole = json.dumps({**said, "body": body})
    if len(whole) <= MAX_ENVELOPE_BYTES:
        return whole
    # An escaped character takes at most 12 bytes, so this much fits whatever it is.
    return json.dumps({**said, "body": body[: MAX_ENVELOPE_BYTES // 12 - 1024], "truncated": True})


def read_letter(raw: RawLetter) -> DeadLetter:
    """A message of the dead-letter queue as a dead letter; of an unknown kind, its body says what there is to know."""
    found = _mapping(raw.body)
    at, source, reason, body = raw.sent_at, "unknown", "unknown", raw.body
    if found.get("kind") == "refused":
        at = _moment(found.get("at")) or at
        source, reason, body = _text(found.get("source")), _text(found.get("reason")), _text(found.get("body"))
    elif raw.moved_from:
        source = raw.moved_from.rpartition(":")[2]
        reason = "every delivery failed; the function's log says why"
    elif "requestContext" in found and "requestPayload" in found:
        source, reason, body = _undelivered_event(found)
    elif "ruleName" in found and "failures" in found:
        source, reason, body = _undelivered_by_rule(found)
    elif "ERROR_CODE" in raw.attributes:
        source = raw.attributes.get("RULE_ARN", "scheduler").rpartition(":")[2]
        reason = f"{raw.attributes['ERROR_CODE']}: {raw.attributes.get('ERROR_MESSAGE', '')}"
    return DeadLetter(id=raw.id, at=at, source=source, reason=reason, body=excerpt(body))


def excerpt(body: str) -> str:
    """How a body begins, without the values of an environment: those may be secrets."""
    found = _mapping(body)
    environment = found.get("environment")
    if isinstance(environment, dict):
        masked = dict.fromkeys(cast("dict[str, object]", environment), "***")
        body = json.dumps({**found, "environment": masked})
    elif environment is not None:
        body = json.dumps({**found, "environment": "***"})
    return body if len(body) <= MAX_EXCERPT else body[: MAX_EXCERPT - 1] + "…"


def _undelivered_event(found: dict[str, Any]) -> tuple[str, str, str]:
    # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    context, answer = _dict(found["requestContext"]), _dict(found.get("responsePayload"))
    function = _text(context.get("functionArn")).removesuffix(":$LATEST").rpartition(":")[2]
    error = ": ".join(_text(answer[name]) for name in ("errorType", "errorMessage") if answer.get(name))
    return function, f"{_text(context.get('condition'))}: {error}".rstrip(": "), json.dumps(found["requestPayload"])


def _undelivered_by_rule(found: dict[str, Any]) -> tuple[str, str, str]:
    # https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html
    failures: object = found["failures"]
    first = _dict(cast("list[object]", failures)[0]) if isinstance(failures, list) and failures else {}
    body = f"{_text(found.get('topic'))} {_decoded(found.get('base64OriginalPayload'))}"
    return f"rule {_text(found['ruleName'])}", _text(first.get("errorMessage") or "undeliverable"), body


def _decoded(payload: object) -> str:
    try:
        return b64decode(str(payload or "")).decode(errors="replace")
    except ValueError:
        return str(payload)


def _mapping(body: str) -> dict[str, Any]:
    try:
        return _dict(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _dict(found: object) -> dict[str, Any]:
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _text(found: object) -> str:
    return found if isinstance(found, str) else "" if found is None else json.dumps(found)


def _moment(found: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(_text(found))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
