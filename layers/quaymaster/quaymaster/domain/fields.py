"""Types of fields that requests share with what they contain and with the API."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from quaymaster.domain.durations import FORM, format_duration, parse_duration

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def _span(found: object) -> object:
    if isinstance(found, timedelta):
        return found
    if not isinstance(found, str):
        raise ValueError("a duration is a string like '90s', '7m' or '1h10m'")
    try:
        return parse_duration(found)
    except ValueError:
        raise ValueError("a duration is written like '90s', '7m' or '1h10m'") from None


Duration = Annotated[
    timedelta,
    BeforeValidator(_span),
    PlainSerializer(format_duration, when_used="json"),
    # JSON Schema's own durations are those of ISO 8601.
    WithJsonSchema({"type": "string", "pattern": f"^{FORM.pattern}$", "examples": ["90s", "7m", "1h10m"]}),
]
EnvironmentName = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]


def _names_a_program(found: tuple[str, ...]) -> tuple[str, ...]:
    if found and not found[0].strip():
        raise ValueError("the command's first word is empty")
    return found


Words = Annotated[tuple[str, ...], Field(max_length=256), AfterValidator(_names_a_program)]
"""A command, or nothing where there may be none."""
Command = Annotated[Words, Field(min_length=1)]
Environment = Annotated[dict[EnvironmentName, str], Field(max_length=256)]
Hooks = Annotated[tuple[Command, ...], Field(max_length=8)]
"""Commands that run one after the other."""
