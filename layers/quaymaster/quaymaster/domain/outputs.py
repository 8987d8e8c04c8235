"""What a phase leaves for people and programs: a JSON object of named values, written to `$QUAYMASTER_OUTPUTS`."""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, cast

from pydantic import Field, JsonValue, ValidationError

from quaymaster.domain.messages import SCHEMA, Value
from quaymaster.errors import Refused
from quaymaster.telling import describe

MAX_OUTPUT_BYTES = 64 * 1024
MAX_OUTPUTS = 256
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
_TERRAFORM = frozenset({"value", "type", "sensitive"})
"""What Terraform and OpenTofu tell of an output (`output -json`)."""


class Outputs(Value):
    """The object in the bucket. Of what is sensitive only the name leaves the worker.

    Where its host allows it, `sealed` has the values: base64 of a JSON object, sealed (age) to the pool's key.
    """

    schema_version: int = Field(default=SCHEMA, alias="schema")
    outputs: dict[str, JsonValue] = {}
    sensitive: list[Annotated[str, Field(max_length=128)]] = []
    sealed: str | None = None


def read_outputs(body: bytes, seal: Callable[[bytes], str] | None = None) -> Outputs:
    """What a phase wrote: a value for each name, or (as Terraform has it) an object with `value` and `sensitive`.

    `seal` seals what is sensitive. Raises Refused; no value is ever repeated.
    """
    if len(body) > MAX_OUTPUT_BYTES:
        raise Refused("outputs", f"over {MAX_OUTPUT_BYTES} bytes", f"at most {MAX_OUTPUT_BYTES} bytes")
    try:
        found = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refused("outputs", f"{len(body)} bytes that are no JSON", "a JSON object of names and values") from None
    if not isinstance(found, dict):
        raise Refused("outputs", describe(found), "a JSON object of names and values")
    named = cast("dict[str, Any]", found)
    if len(named) > MAX_OUTPUTS:
        raise Refused("outputs", f"{len(named)} names", f"at most {MAX_OUTPUTS}")
    outputs: dict[str, JsonValue] = {}
    sensitive: dict[str, JsonValue] = {}
    for name, told in named.items():
        if not NAME.fullmatch(name):
            raise Refused("outputs", describe(name), f"names that match {NAME.pattern}")
        value, is_sensitive = _value(told)
        if is_sensitive:
            sensitive[name] = value
        else:
            outputs[name] = value
    try:
        sealed = seal(json.dumps(sensitive).encode()) if seal and sensitive else None
        return Outputs(outputs=outputs, sensitive=list(sensitive), sealed=sealed)
    except ValidationError:
        raise Refused("outputs", "values nested too deeply", "values that people can read") from None


def _no_number(text: str) -> None:
    """NaN and the infinities, which Python would read and JSON does not have."""
    raise ValueError(text)


def _value(told: Any) -> tuple[JsonValue, bool]:
    """A value, and whether it is sensitive; what says `sensitive` with anything but false is."""
    if isinstance(told, dict) and "value" in told and cast("dict[str, Any]", told).keys() <= _TERRAFORM:
        fields = cast("dict[str, Any]", told)
        return fields["value"], fields.get("sensitive", False) is not False
    return cast("JsonValue", told), False
