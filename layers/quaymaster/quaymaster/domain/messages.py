"""The messages between the control plane and the agents: one pydantic model each.

Every message carries `schema`; this version and the one before it are read, others are refused. Unknown fields are
ignored, so that a newer peer may say more. Spans are whole or fractional seconds, named `_seconds`; no message
carries a worker's idea of the time of day, because only the control plane's clock counts.
"""

from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from quaymaster.domain.states import Reason

SCHEMA = 1
READABLE = frozenset({SCHEMA, SCHEMA - 1} - {0})

Seconds = Annotated[float, Field(ge=0, le=366 * 86_400)]
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
Attempt = Annotated[int, Field(ge=1, le=999_999)]
Count = Annotated[int, Field(ge=0, le=2**53)]
ExitCode = Annotated[int, Field(ge=-(2**31), le=2**32 - 1)]
"""What any system has as one, signals and all; a number beyond it could not be kept."""


class Executor(StrEnum):
    """What workers of a pool run commands in: processes of their host, or containers of an engine on it."""

    PROCESS = "process"
    DOCKER = "docker"


def most_bytes(limit: int) -> AfterValidator:
    """Text of at most so many bytes, encoded: limits of AWS count those, not characters."""

    def check(found: str) -> str:
        if len(found.encode(errors="replace")) > limit:
            raise ValueError(f"at most {limit} bytes")
        return found

    return AfterValidator(check)


Tag = Annotated[str, most_bytes(256)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Value(BaseModel):
    """Frozen, and forgiving about fields it does not know; built at its first use, for a function reads few of them."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, defer_build=True)


class Message(Value):
    """What every message has."""

    schema_version: int = Field(default=SCHEMA, alias="schema")

    @field_validator("schema_version")
    @classmethod
    def _readable(cls, found: int) -> int:
        if found not in READABLE:
            raise ValueError(f"schema {found} is not read here; allowed: {', '.join(map(str, sorted(READABLE)))}")
        return found

    def encode(self) -> bytes:
        """The message as JSON, without its empty fields."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


# Grants: presigned permission for one attempt's objects. Never logged.


class PostGrant(Value):
    """A presigned POST below a key prefix: form fields to send before `file`; `key` = prefix + the object's name."""

    url: str
    fields: dict[str, str]
    key_prefix: str
    max_bytes: int


class PutGrant(Value):
    """A presigned PUT of one object; the headers are part of the signature and must be sent as they are."""

    url: str
    headers: dict[str, str] = Field(default_factory=dict)


class Grants(Value):
    """What one attempt may write; renewed by asking with `renew`."""

    chunks: PostGrant
    log: PutGrant
    log_end: PutGrant
    outputs: PutGrant | None = None
    workspace: PutGrant | None = None
    """For what the phases leave to a later attempt, which begins once they are confirmed."""
    expires_in_seconds: Seconds


class WorkspaceGrant(Value):
    """A presigned GET of what an attempt needs: the packed workspace (gzipped tar) that a request brought along or an
    earlier attempt left, or commands and environments too large for a message."""

    url: str
    sha256: Sha256 | None = None


class ImageRule(StrEnum):
    """Who has named an image: a run's request, the launcher of its worker's host, its pool, or the deployment."""

    REQUEST = "request"
    LAUNCHER = "launcher"
    POOL = "pool"
    TEMPLATE = "template"


class ImageUsed(Value):
    """The image of an attempt's containers, and who has named it."""

    name: Annotated[str, Field(min_length=1, max_length=512)]
    rule: ImageRule


# To the agent.


class ToAgent(Message):
    """A message on `<ns>/to/<pool>/<worker>`; one with another session than the agent's own is ignored."""

    session: str | None = None


class Welcome(ToAgent):
    """Answers `registered`: the session is known, and these are the pool's settings for its agents."""

    kind: Literal["welcome"] = "welcome"
    lease_seconds: Seconds
    stop_grace_seconds: Seconds
    log_cap_bytes: int
    workspace_cap_bytes: int = 2 << 30
    repeat_seconds: Seconds = 5


class Unfit(ToAgent):
    """Answers `registered`: this agent is none for the pool, and only another configuration would change that."""

    kind: Literal["unfit"] = "unfit"
    note: str


class Who(ToAgent):
    """Asks the agent to register again, at once; carries no session."""

    kind: Literal["who"] = "who"


CommandWords = Annotated[list[str], Field(min_length=1)]
"""A command: a program and its arguments."""


class PhaseOrder(Value):
    """One phase of an attempt. Its environment comes on top of the attempt's own; its hooks are commands as well."""

    name: Name
    command: list[str] = []
    environment: dict[str, str] = Field(default_factory=dict)
    before: list[CommandWords] = []
    after: list[CommandWords] = []
    read_only: bool = False
    log_timeout_seconds: Seconds
    run_timeout_seconds: Seconds


class Assign(ToAgent):
    """Offers one attempt of a run: prepare it and answer `prepared`; begin only on `go`.

    Its `phases` run one after the other, each on a `go` of its own; the first of them is number `first` of the run's.
    Without any it has the one that `phase`, `command` and the timeouts describe. With `spec`, commands and environments
    are there (JSON), because they are too large for a message. `pack`: once they have finished, the workspace goes into
    the bucket, for an attempt that others have to confirm. `on_end` is run when the run ends on this worker;
    `metadata` is what those who confirmed it have said.
    """

    kind: Literal["assign"] = "assign"
    run: Name
    attempt: Attempt
    type: str
    phase: str
    stack: str | None = None
    command: list[str] = []
    environment: dict[str, str] = Field(default_factory=dict)
    first: Count = 0
    phases: list[PhaseOrder] = []
    on_end: list[CommandWords] = []
    pack: bool = False
    metadata: dict[str, str] = Field(default_factory=dict)
    spec: WorkspaceGrant | None = None
    image: str | None = None
    tool: str = "other"
    default_image: ImageUsed | None = None
    """For a run that names no image, on a host that has none of its own for the tool."""
    workspace: WorkspaceGrant | None = None
    log_timeout_seconds: Seconds
    run_timeout_seconds: Seconds
    prepare_timeout_seconds: Seconds
    warning_seconds: Seconds
    grants: Grants


class AboutRun(ToAgent):
    """A message about one attempt; the agent ignores it when it holds another."""

    run: Name
    attempt: Attempt


class Go(AboutRun):
    """The table says RUNNING: begin the phase. Both timeouts count from here.

    They are those that the table has now: a phase that runs already takes them from a repetition. `phase` is the
    phase's number in its run.
    """

    kind: Literal["go"] = "go"
    phase: Count = 0
    log_timeout_seconds: Seconds | None = None
    run_timeout_seconds: Seconds | None = None


class Refused(AboutRun):
    """This attempt is not the agent's (any more): drop it without beginning, or kill what runs."""

    kind: Literal["refused"] = "refused"


class Done(ToAgent):
    """The report (`phase_finished`, `handed_back`, `goodbye`) is in the table; stop repeating it."""

    kind: Literal["done"] = "done"
    event: Literal["phase_finished", "handed_back", "goodbye"]
    run: Name | None = None
    attempt: Attempt | None = None


class Stop(AboutRun):
    """End the phase: SIGTERM, grace, SIGKILL; report it with this reason, and with the note if there is one."""

    kind: Literal["stop"] = "stop"
    reason: Reason
    note: str | None = None


class Kill(AboutRun):
    """End the phase at once, with SIGKILL; report it with this reason, and with the note if there is one."""

    kind: Literal["kill"] = "kill"
    reason: Reason
    note: str | None = None


class Extend(AboutRun):
    """New timeouts for the phase of this number, still counted from its `go`; the note says in its log who has given
    them."""

    kind: Literal["extend"] = "extend"
    phase: Count = 0
    log_timeout_seconds: Seconds
    run_timeout_seconds: Seconds
    note: str | None = None


class NewGrants(AboutRun):
    """Answers `renew`."""

    kind: Literal["grants"] = "grants"
    grants: Grants


class Drain(ToAgent):
    """Whether the worker takes no more runs; for the agent's own log only, the table decides."""

    kind: Literal["drain"] = "drain"
    drained: bool


class Cycle(ToAgent):
    """End at once, with the exit code for `cycled`, unless this session is of this generation or younger."""

    kind: Literal["cycle"] = "cycle"
    generation: int


class Watch(AboutRun):
    """Someone reads along: ship a chunk every second for so long."""

    kind: Literal["watch"] = "watch"
    for_seconds: Seconds


AnyToAgent = Annotated[
    Welcome | Unfit | Who | Assign | Go | Refused | Done | Stop | Kill | Extend | NewGrants | Drain | Cycle | Watch,
    Field(discriminator="kind"),
]

# From the agent. The event's name is the last level of the topic; pool and worker come from the topic too.


class FromAgent(Message):
    """A message on `<ns>/from/<pool>/<worker>/<event>`, repeated until it is answered."""

    session: Name


class Packed(Value):
    """A workspace that an attempt has left in the bucket, as a gzipped tar."""

    sha256: Sha256
    bytes: Count


class Usage(Value):
    """What the commands of an attempt have used of their machine, as it was sampled, and what they might have used.

    `elapsed_ms` is the time that was looked at; limits are in thousandths of a processor and in bytes, and None where
    there were none.
    """

    elapsed_ms: Count
    cpu_ms: Count
    throttled_ms: Count = 0
    millicpus: Count | None = None
    memory_peak_bytes: Count
    memory_limit_bytes: Count | None = None


class Outcome(Value):
    """How an attempt ended on the worker, in the words of the table; `workspace` is what it has left for a later one,
    `usage` what its commands have used.

    A FINISHED one means all its phases.
    """

    end: Literal["FINISHED", "FAILED", "STOPPED"]
    reason: Reason | None = None
    exit_code: ExitCode | None = None
    note: Annotated[str, Field(max_length=200)] | None = None
    workspace: Packed | None = None
    usage: Usage | None = None


class LogDigest(Value):
    """What the final log's bytes are: counted before compression, hashed after.

    `dropped` counts bytes of output that are not in it: it had reached its cap, or could not be kept on the disk.
    """

    lines: Count = 0
    bytes: Count = 0
    sha256: Sha256 | None = None
    complete: bool = True
    dropped: Count = 0


class LogEnd(Value):
    """The end marker `log.json` beside a final log."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    run: Name
    attempt: Attempt
    digest: LogDigest
    outcome: Outcome


class Holding(Value):
    """What the agent holds as it registers: an attempt it prepares, waits with, runs, or has finished unreported."""

    run: Name
    attempt: Attempt
    stage: Literal["preparing", "prepared", "running", "finished"]


class Remains(Value):
    """What an earlier agent on this host left and this one has removed: it can no longer act."""

    worker_id: Name
    run: Name
    attempt: Attempt


class Registered(FromAgent):
    """First message of every connection, and the answer to `who`."""

    holding: Holding | None = None
    remains: Annotated[list[Remains], Field(max_length=100)] = []
    metadata: Annotated[dict[Tag, Tag], Field(max_length=50)] = Field(default_factory=dict)
    agent_version: Annotated[str, Field(max_length=64)] = ""
    launch: Name | None = None
    log_timeout_seconds: Seconds | None = None
    run_timeout_seconds: Seconds | None = None
    executor: Executor = Executor.PROCESS


class Preparing(FromAgent):
    """A slow preparation goes on; keeps the offer alive until the prepare deadline."""

    run: Name
    attempt: Attempt


class Prepared(FromAgent):
    """Ready to begin this phase, by its number in the run, all before it being finished; answered with `go`, with the
    end that was decided meanwhile, or with `refused`."""

    run: Name
    attempt: Attempt
    phase: Count = 0
    image: ImageUsed | None = None


class PhaseFinished(FromAgent):
    """The phase has ended and nothing of it acts any more; answered with `done`."""

    run: Name
    attempt: Attempt
    outcome: Outcome
    log: LogDigest = LogDigest()
    leaving: bool = False


class HandedBack(FromAgent):
    """The attempt was given back before it began; answered with `done`."""

    run: Name
    attempt: Attempt
    leaving: bool = False
    note: Annotated[str, Field(max_length=200)] | None = None


class Renew(FromAgent):
    """Asks for new grants, and says how long the phase has been silent and whether uploads work.

    `unseen`: it only says so, because no chunk in the store tells of that output; nobody waits for grants.
    """

    run: Name
    attempt: Attempt
    quiet_seconds: Seconds
    uploads: Literal["ok", "failing"] = "ok"
    unseen: bool = False


class Goodbye(FromAgent):
    """Last message of a worker; it takes no more runs. Answered with `done`."""

    note: Annotated[str, Field(max_length=200)] | None = None


EVENTS: dict[str, type[FromAgent]] = {
    "registered": Registered,
    "preparing": Preparing,
    "prepared": Prepared,
    "phase_finished": PhaseFinished,
    "handed_back": HandedBack,
    "renew": Renew,
    "goodbye": Goodbye,
}


@cache
def _to_agent() -> TypeAdapter[AnyToAgent]:
    """Made when it is first needed: no function reads what agents are sent."""
    return TypeAdapter(AnyToAgent)


def read_to_agent(payload: bytes) -> AnyToAgent:
    """Read a message to an agent. Raises pydantic.ValidationError."""
    return _to_agent().validate_json(payload)


def read_from_agent(event: str, payload: bytes) -> FromAgent:
    """Read an agent's message by the event its topic names.

    Raises KeyError for an event that nobody sends, pydantic.ValidationError for a malformed body.
    """
    return EVENTS[event].model_validate_json(payload)


class PoolToken(Value):
    """What an agent needs to be a worker of a pool, beside the private key. Travels as base64 of JSON."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    namespace: str
    pool_id: str
    mqtt: Annotated[list["Endpoint"], Field(min_length=1)]
    certificate: str
    ca: str | None = None
    executor: Executor = Executor.PROCESS
    """What the pool's agents run commands in."""
    store: str | None = None
    """Where the bucket answers, whose objects agents read and write; assignments bring whole URLs."""

    def dump(self) -> dict[str, Any]:
        """The token as JSON-ready values."""
        return self.model_dump(by_alias=True, mode="json")


class Endpoint(Value):
    """One address of the broker."""

    host: str
    port: Annotated[int, Field(ge=1, le=65_535)] = 8883
