"""What a field may be, in words of this project: from the kind of a failed validation, never its library's text."""

from collections.abc import Mapping
from typing import Any

# Kinds and contexts: pydantic, "Validation Errors".
_ALLOWED: Mapping[str, str] = {
    "missing": "it is required",
    "extra_forbidden": "there is no such field",
    "string_type": "a text",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "mapping_type": "an object",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "literal_error": "one of {expected}",
    "enum": "one of {expected}",
    "union_tag_invalid": "one of {expected_tags}",
    "datetime_type": "a time like 2026-01-02T03:04:05Z",
    "datetime_parsing": "a time like 2026-01-02T03:04:05Z",
    "datetime_from_date_parsing": "a time like 2026-01-02T03:04:05Z",
    "timezone_aware": "a time with its zone, like 2026-01-02T03:04:05Z",
    "time_delta_type": "a duration like '90s', '7m' or '1h10m'",
    "time_delta_parsing": "a duration like '90s', '7m' or '1h10m'",
    "json_invalid": "JSON",
    "none_required": "null",
}
_OWN = frozenset({"value_error", "assertion_error"})
"""Kinds whose words are those of a check of ours."""
_PREFIX = "Value error, "


def allowed(complaint: Mapping[str, Any]) -> str:
    """What one of pydantic's errors (its `type`, `ctx` and `msg`) says is allowed."""
    kind: str = complaint["type"]
    context: Mapping[str, Any] = complaint.get("ctx") or {}
    if kind in _OWN:
        return str(complaint["msg"]).removeprefix(_PREFIX).removeprefix("Assertion failed, ")
    try:
        return _ALLOWED[kind].format(**context)
    except KeyError:
        return f"another value ({kind.replace('_', ' ')})"
