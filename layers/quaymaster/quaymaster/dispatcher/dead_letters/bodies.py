"""The bodies of dead letters: read as far as they can be, and shown without what could be a secret."""

import base64
import json
import re
from typing import Any, cast

from quaymaster.domain.durations import FORM as DURATION
from quaymaster.domain.requests import RunType
from quaymaster.telling import describe, describe_field

_WRAPPED = ("body", "base64OriginalPayload")
_DEPTH = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ARN = re.compile(r"arn:aws[a-z-]*:[a-z]+:[a-z0-9-]*:[0-9]*:[A-Za-z0-9._:/$-]{1,256}")
_WORD = re.compile(r"[A-Za-z_]{1,40}")
_FORMS = {
    **dict.fromkeys(
        ("id", "pool", "pool_id", "worker_id", "clientId", "client_id", "startedBy", "run", "stack"), _NAME
    ),
    **dict.fromkeys(("session", "event", "eventType", "ruleName", "source"), _NAME),
    **dict.fromkeys(("taskArn", "taskDefinitionArn", "clusterArn", "functionArn"), _ARN),
    **dict.fromkeys(("lastStatus", "desiredStatus", "stopCode", "condition", "errorType"), _WORD),
    **dict.fromkeys(("log_timeout", "run_timeout"), DURATION),
    "type": re.compile("|".join(RunType)),
    "kind": re.compile("run|wake"),
    "by": re.compile("sqs|mqtt|api"),
    "key": re.compile(r"inputs/[0-9A-Za-z]+/[0-9A-Za-z_-]+/workspace\.tar\.gz"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "topic": re.compile(r"[A-Za-z0-9._/$-]{1,256}"),
}
_NUMBERS = frozenset({"schema", "retryable", "received_at", "attempt", "approximateInvokeCount"})
_LISTS = frozenset({"detail", "containers", "failures", "holding"})


def read_mapping(text: str | bytes) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def unwrap(wrapped: object) -> dict[str, Any]:
    """The JSON object that a rule encoded as base64; empty for anything else."""
    if not isinstance(wrapped, str):
        return {}
    try:
        return read_mapping(base64.b64decode(wrapped, validate=True))
    except ValueError:
        return {}


def request_in(body: dict[str, Any]) -> dict[str, Any]:
    """The request itself: an MQTT rule wraps it as base64, a function as it is."""
    if isinstance(inner := body.get("request"), dict):
        return cast("dict[str, Any]", inner)
    return unwrap(next(body[name] for name in _WRAPPED if name in body)) if set(_WRAPPED) & set(body) else body


def tell(found: object, name: str = "", depth: int = _DEPTH) -> Any:
    """The same as it may be shown: what is wrapped is unwrapped, and a value is told by its kind and length.

    A value itself is shown only where everybody sees it anyway, in a field that is known, and in that field's form:
    what stands elsewhere, or looks otherwise, may be a secret in the wrong place.
    """
    if isinstance(found, dict) and depth:
        fields = cast("dict[str, object]", found)
        return {describe_field(field): tell(value, field, depth - 1) for field, value in fields.items()}
    if isinstance(found, list) and depth and name in _LISTS:
        return [tell(one, name, depth - 1) for one in cast("list[object]", found)]
    if name in _WRAPPED and isinstance(found, str) and (inner := unwrap(found)):
        return tell(inner, name, depth - 1)
    shown = name in _NUMBERS if isinstance(found, int | float) else isinstance(found, str) and _is_of(name, found)
    return cast("Any", found) if shown else describe(cast("object", found))


def _is_of(name: str, found: str) -> bool:
    form = _FORMS.get(name)
    return form is not None and form.fullmatch(found) is not None
