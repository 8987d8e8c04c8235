"""The bodies of dead letters: read as far as they can be, and shown without an environment's values."""

import base64
import json
from collections.abc import Mapping
from typing import Any, cast

MASK = "***"
_WRAPPED = ("body", "base64OriginalPayload")
_DEPTH = 8


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


def field_names(body: Mapping[str, Any]) -> str:
    """What can be told of anything without telling what is in it."""
    return f"fields: {', '.join(body)}"


def mask(found: object, depth: int = _DEPTH) -> Any:
    """The same, what is wrapped as base64 unwrapped, without the values of any `environment` at any depth."""
    if depth == 0:
        return MASK
    if isinstance(found, list):
        return [mask(one, depth - 1) for one in cast("list[object]", found)]
    if not isinstance(found, dict):
        return found
    fields = cast("dict[str, object]", found)
    return {name: _masked(name, value, depth - 1) for name, value in fields.items()}


def _masked(name: str, value: object, depth: int) -> Any:
    if name == "environment":
        return dict.fromkeys(cast("dict[str, object]", value), MASK) if isinstance(value, dict) else MASK
    if name in _WRAPPED and isinstance(value, str):
        inner = unwrap(value)
        return mask(inner, depth) if inner else f"{len(value)} characters that hold no JSON object"
    return mask(value, depth)
