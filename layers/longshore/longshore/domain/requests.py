"""Run requests as they arrive over SQS, MQTT and the API, and the one-line refusals of malformed ones."""

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, field_validator

from longshore.domain.durations import format_duration, parse_duration
from longshore.domain.messages import Message, Sha256, Value
from longshore.errors import Refused

MAX_REQUEST_BYTES = 96 * 1024
MAX_INLINE_BYTES = 64 * 1024
MAX_FIELD = 200
"""Characters of a field's name in a refusal: names are the requester's too."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class RunType(StrEnum):
    """What a run is for; decides its class in the queue and whether it may write."""

    TRACKED = "tracked"
    DESTROY = "destroy"
    TASK = "task"
    PROPOSED = "proposed"
    DRIFT = "drift"


def _span(found: object) -> object:
    if isinstance(found, timedelta):
        return found
    if not isinstance(found, str):
        raise ValueError("a duration is a string like '90s', '7m' or '1h10m'")
    return parse_duration(found)


Duration = Annotated[timedelta, BeforeValidator(_span), PlainSerializer(format_duration, when_used="json")]
EnvironmentName = Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
Argument = Annotated[str, Field(max_length=MAX_INLINE_BYTES)]


class Workspace(Value):
    """A packed workspace (gzipped tar) that lies in the bucket."""

    key: Annotated[str, Field(max_length=256, pattern=r"^inputs/[0-9A-Za-z]+/[0-9A-Za-z_-]+/workspace\.tar\.gz$")]
    sha256: Sha256 | None = None


class RunRequest(Message):
    """Asks for one run on a pool."""

    kind: Literal["run"] = "run"
    id: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,64}$")] | None = None
    pool: Annotated[str, Field(min_length=1, max_length=64)]
    type: RunType = RunType.TASK
    stack: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    command: Annotated[list[Argument], Field(min_length=1, max_length=256)]
    environment: Annotated[dict[EnvironmentName, Argument], Field(max_length=256)] = {}
    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    workspace: Workspace | None = None
    log_timeout: Duration | None = None
    run_timeout: Duration | None = None
    retryable: bool = False
    reply_to: Annotated[str, Field(max_length=256)] | None = None

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, found: list[str]) -> list[str]:
        if not found[0].strip():
            raise ValueError("the command's first word is empty")
        if any("\0" in word for word in found):
            raise ValueError("a command's words have no NUL character")
        return found


class Reply(Message):
    """What became of a request, published on its `reply_to`."""

    kind: Literal["reply"] = "reply"
    id: str | None = None
    accepted: bool
    run: str | None = None
    state: str | None = None
    error: str | None = None


def read_request(payload: str | bytes) -> RunRequest:
    """Read a run request. Raises Refused, naming the field, what was found and what is allowed."""
    size = len(payload.encode(errors="replace")) if isinstance(payload, str) else len(payload)
    if size > MAX_REQUEST_BYTES:
        raise Refused("request", f"{size} bytes", f"at most {MAX_REQUEST_BYTES} bytes; send large inputs by S3")
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        raise Refused("request", payload[:40], "a JSON object") from None
    if not isinstance(found, dict):
        raise Refused("request", type(found).__name__, "a JSON object")
    return check_request(cast("dict[str, Any]", found))


def check_request(found: dict[str, Any]) -> RunRequest:
    """Check a request that is already a mapping. Raises Refused."""
    try:
        return RunRequest.model_validate(found)
    except ValidationError as error:
        raise refusal(error) from None


def refusal(error: ValidationError) -> Refused:
    """The first complaint of a failed validation as one readable refusal; never repeats an environment's values."""
    first = error.errors(include_url=False)[0]
    return refuse_field([str(part) for part in first["loc"]], first["type"], first.get("input"), first["msg"])


def refuse_field(location: Sequence[str], kind: str, found: object, said: str) -> Refused:
    """A complaint of pydantic's as a refusal. Of an environment nothing is repeated but names that are names."""
    secret = bool(location) and location[0] == "environment"
    if secret and len(location) > 1 and not _NAME.fullmatch(location[1]):
        # Somebody wrote NAME=VALUE where the name goes.
        location = location[:1]
    field = ".".join(location)[:MAX_FIELD] or "request"
    shown = "a value" if secret else "nothing" if kind == "missing" else repr(found)[:80]
    return Refused(field, shown, said.removeprefix("Value error, "))
