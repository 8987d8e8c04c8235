"""Run requests as they arrive over SQS, MQTT and the API, and the one-line refusals of malformed ones."""

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal, cast

from pydantic import ConfigDict, Field, ValidationError

from quaymaster.domain.complaints import allowed
from quaymaster.domain.fields import NAME, Duration, Environment, Hooks, Words
from quaymaster.domain.messages import Message, Sha256, Value, most_bytes
from quaymaster.domain.phases import MOST_PHASES, Phase, check_phases
from quaymaster.domain.states import Reason, RunState
from quaymaster.errors import Refused
from quaymaster.telling import describe, describe_field, describe_name

MAX_REQUEST_BYTES = 224 * 1024
"""Of a request as it is encoded: a message of a queue (256 KiB) holds it with who sent it, and an item of the table
(400 KB) with all else of its run."""
MAX_INLINE_BYTES = 192 * 1024
"""What the command line puts into a request of command and environment; a larger environment goes by the workspace."""
MAX_TOPIC_BYTES = 256
"""AWS IoT Core's limit."""
MAX_FIELD = 200
"""Characters of a field's name in a refusal: names are the requester's too."""

NAMES = frozenset({"name"})
"""Fields that are shown to everybody anyway: a refusal repeats them."""

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,64}")
_UNFIT = re.compile("[\0\ud800-\udfff]")


class RunType(StrEnum):
    """What a run is for; decides its class in the queue and whether it may write."""

    TRACKED = "tracked"
    DESTROY = "destroy"
    TASK = "task"
    PROPOSED = "proposed"
    DRIFT = "drift"


class Tool(StrEnum):
    """What a run's commands are mostly of; decides which image its worker's host gives it if it names none."""

    TERRAFORM = "terraform"
    OPENTOFU = "opentofu"
    ANSIBLE = "ansible"
    OTHER = "other"


class ReplyOn(StrEnum):
    """What a requester hears on its `reply_to`: that the request was accepted (or refused), how its run ended, or both.

    A refusal is told in any case.
    """

    ACCEPTED = "accepted"
    ENDED = "ended"
    BOTH = "both"


class Workspace(Value):
    """A packed workspace (gzipped tar) that lies in the bucket."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    key: Annotated[str, Field(max_length=256, pattern=r"^inputs/[0-9A-Za-z]+/[0-9A-Za-z_-]+/workspace\.tar\.gz$")]
    sha256: Sha256 | None = None


class RunRequest(Message):
    """Asks for one run on a pool. A field that it does not have is refused: whoever wrote it meant something."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    kind: Literal["run"] = "run"
    id: Annotated[str, Field(pattern=f"^{REQUEST_ID.pattern}$")] | None = None
    pool: Annotated[str, Field(min_length=1, max_length=64)]
    type: RunType = RunType.TASK
    stack: Annotated[str, Field(min_length=1), most_bytes(64)] | None = None
    command: Words = ()
    environment: Environment = Field(default_factory=dict)
    phases: Annotated[tuple[Phase, ...], Field(max_length=MOST_PHASES)] = ()
    on_end: Hooks = ()
    auto_confirm: bool = False
    image: Annotated[str, Field(min_length=1), most_bytes(512)] | None = None
    tool: Tool = Tool.OTHER
    workspace: Workspace | None = None
    log_timeout: Duration | None = None
    run_timeout: Duration | None = None
    retryable: bool = False
    reply_to: Annotated[str, most_bytes(MAX_TOPIC_BYTES)] | None = None
    reply_on: ReplyOn = ReplyOn.ACCEPTED


class Reply(Message):
    """What became of a request, published on its `reply_to`."""

    kind: Literal["reply"] = "reply"
    id: str | None = None
    accepted: bool
    run: str | None = None
    state: str | None = None
    error: str | None = None


class EndReply(Message):
    """How a requested run ended, published on the request's `reply_to`, once or more often.

    `log` is the key of its latest attempt's log in the deployment's bucket; null for a run that never had a worker.
    """

    kind: Literal["ended"] = "ended"
    id: str
    run: str
    state: RunState
    reason: Reason | None = None
    exit_code: int | None = None
    note: str | None = None
    attempt: int
    log: str | None = None


_INNER = frozenset({*Workspace.model_fields, *Phase.model_fields})


def read_request(payload: str | bytes) -> RunRequest:
    """Read a run request. Raises Refused, naming the field, what was found and what is allowed."""
    size = len(payload.encode(errors="replace")) if isinstance(payload, str) else len(payload)
    if size > MAX_REQUEST_BYTES:
        raise Refused("request", f"{size} bytes", f"at most {MAX_REQUEST_BYTES} bytes; send large inputs by S3")
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        raise Refused("request", f"{size} bytes that are no JSON", "a JSON object") from None
    if not isinstance(found, dict):
        raise Refused("request", type(found).__name__, "a JSON object")
    return check_request(cast("dict[str, Any]", found))


def check_request(found: dict[str, Any]) -> RunRequest:
    """Check a request that is already a mapping. Raises Refused."""
    check_text(found)
    try:
        request = RunRequest.model_validate(found)
    except ValidationError as error:
        raise refusal(error) from None
    check_work(request)
    return request


def check_work(request: RunRequest) -> None:
    """Either a command or phases: what is said of the one has no meaning for the other."""
    if not request.phases:
        if not request.command:
            raise Refused("command", "nothing", "it is required, unless there are phases")
        if request.auto_confirm:
            raise Refused("auto_confirm", "true", "false: there are no phases that could need confirmation")
        return
    if request.command:
        raise Refused("command", "a command beside phases", "one of the two")
    if request.retryable:
        raise Refused("retryable", "true", "false: each of the phases says it for itself")
    check_phases(request.phases)


def check_text(found: object, location: tuple[str, ...] = ()) -> None:
    """Raises Refused, naming the field, for text that nothing can carry: half of a surrogate pair, or a NUL."""
    match found:
        case str():
            bad = _UNFIT.search(found)
            if bad:
                what = "a NUL character" if bad[0] == "\0" else "half of a surrogate pair"
                raise Refused(_field(location), f"text with {what}", "text of Unicode characters without NUL")
        case dict():
            for name, value in cast("dict[str, object]", found).items():
                check_text(value, (*location, name))
        case list():
            for value in cast("list[object]", found):
                check_text(value, location)
        case _:
            return


def refusal(error: ValidationError) -> Refused:
    """The first complaint of a failed validation as one readable refusal; never repeats a value."""
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden" and error.title == RunRequest.__name__ and len(location) == 1:
        return Refused(_field(location), "a field that a request does not have", _nearest(location[0]))
    return refuse_field(location, cast("Mapping[str, Any]", first))


def refuse_field(location: Sequence[str], complaint: Mapping[str, Any]) -> Refused:
    """A complaint of pydantic's as a refusal. Of what was found only its kind and length are told: it may be secret."""
    found = complaint.get("input")
    if len(location) == 1 and location[0] in NAMES and isinstance(found, str):
        shown = describe_name(found)
    else:
        shown = "nothing" if complaint["type"] == "missing" else describe(found)
    return Refused(_field(location), shown, allowed(complaint))


def _field(location: Sequence[str]) -> str:
    """Where it stands. Below a field only what is surely a name: somebody may have written NAME=VALUE there."""
    kept = [describe_field(part) for part in location[:1]]
    for above, part in pairwise(location):
        known = part in _INNER or part.isdecimal() or (above == "environment" and NAME.fullmatch(part))
        if not known:
            break
        kept.append(part)
    return ".".join(kept)[:MAX_FIELD] or "request"


def _nearest(name: str) -> str:
    """The fields that a request has, the one that was probably meant first."""
    known = sorted(set(RunRequest.model_fields) - {"schema_version", "kind"})
    meant = [field for field in known if field.startswith(name) or name.startswith(field)]
    meant = meant or get_close_matches(name.lower(), known, n=1)
    return f"{f'perhaps {meant[0]} was meant; ' if meant else ''}fields are {', '.join(known)}"
