"""What the HTTP API takes and gives: the models that the API, the command line and other clients share.

Times are UTC, in ISO 8601; spans are Go durations. A field that is null says "not yet" or "does not apply".
"""

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, ConfigDict, Field, JsonValue, model_validator

from quaymaster.domain.fields import Duration, EnvironmentName
from quaymaster.domain.messages import SCHEMA, Executor, LogDigest, Usage, Value
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.prices import Architecture
from quaymaster.domain.requests import RunType, Tool
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.trouble import TroubleKind
from quaymaster.domain.worker import WorkerState

PoolName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Ulid = Annotated[str, Field(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]


TASK_ROLE = r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$"


class ApiInput(Value):
    """A request's body: a field that nobody knows is refused, because it would silently do nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)


class Problem(Value):
    """The body of every answer that is not a success."""

    error: str
    field: str | None = None


class About(Value):
    """What answers here."""

    version: str
    namespace: str
    ssm_prefix: str
    request_schema: int = SCHEMA


# Pools.


class CreatePool(ApiInput):
    """A new pool. `id` may be chosen by the client (a fresh ULID), so that it can put the key in place beforehand.

    `settings` maps a setting's name to a Go duration or a whole number; what is missing keeps its default.
    `cpu`, `memory`, `architecture` and `task_role` are for Fargate pools only; without the role its runs act as nobody.
    `image` is for those, and for private ones with the executor `docker`.
    """

    name: PoolName
    kind: PoolKind
    csr: Annotated[str, Field(min_length=1, max_length=4096)]
    id: Ulid | None = None
    executor: Executor = Executor.PROCESS
    settings: dict[str, str | int] = {}
    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    cpu: Annotated[int, Field(ge=256, le=16_384)] | None = None
    memory: Annotated[int, Field(ge=512, le=122_880)] | None = None
    architecture: Architecture | None = None
    task_role: Annotated[str, Field(max_length=200, pattern=TASK_ROLE)] | None = None


class ChangePool(ApiInput):
    """What is to change of a pool; what is left out stays. `settings` as for a new one.

    `image` and the others are for the pools that a new one may have them in; null makes one the deployment's again, and
    the role none.
    """

    settings: dict[str, str | int] = {}
    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    cpu: Annotated[int, Field(ge=256, le=16_384)] | None = None
    memory: Annotated[int, Field(ge=512, le=122_880)] | None = None
    architecture: Architecture | None = None
    task_role: Annotated[str, Field(max_length=200, pattern=TASK_ROLE)] | None = None


class PoolCounts(Value):
    """What a pool is doing: workers by what they do, tasks on their way, runs that only lack a worker."""

    idle: int
    busy: int
    absent: int
    starting: int
    queued: int


class PoolSummary(Value):
    """A pool in a list."""

    id: str
    name: str
    kind: PoolKind
    created_at: datetime
    counts: PoolCounts


class TroubleView(Value):
    """What stands against starting a pool's tasks. Runs that wait fail with `reason` from `runs_fail_at` on at the
    earliest; null: they wait for as long as it takes."""

    kind: TroubleKind
    reason: Reason
    note: str
    times: int
    since: datetime
    last_at: datetime
    retry_at: datetime
    runs_fail_at: datetime | None = None


class SpotView(Value):
    """Spot has no capacity: refused `times` in a row, asked again at `retry_at`. Tasks start on demand meanwhile where
    the pool's settings allow it."""

    note: str
    times: int
    since: datetime
    last_at: datetime
    retry_at: datetime


class ImageView(Value):
    """An image that runs of a pool have named: what their tasks are made from, and what stands against starting them.

    `used_at` is the day on which a run wanted it last.
    """

    image: str
    task_definition: str
    used_at: datetime
    trouble: TroubleView | None = None


class MonthView(Value):
    """What a Fargate pool's tasks have taken since the month began, those that run now included.

    A task counts in the month in which it stops, from the pull of its image on, for a minute at least. `cost` is in
    dollars, null where the prices of the region are not known. `calls` are the AWS calls of the control plane for the
    `runs` that ended, at what a run with a task of its own takes.
    """

    month: str
    tasks: int
    runs: int
    seconds: int
    spot_seconds: int
    cost: float | None = None
    calls: int


class PoolView(PoolSummary):
    """A pool in full."""

    generation: int
    settings: dict[str, str | int]
    certificate_id: str
    certificate_expires_at: datetime | None = None
    task_definition: str | None = None
    image: str | None = None
    cpu: int | None = None
    memory: int | None = None
    architecture: Architecture | None = None
    task_role: str | None = None
    executor: Executor = Executor.PROCESS
    workers_reserved: int
    month: MonthView | None = None
    launch_note: str | None = None
    trouble: TroubleView | None = None
    images: list[ImageView] = []
    spot: SpotView | None = None


class PoolList(Value):
    """All pools, by name."""

    pools: list[PoolSummary]


class CreatedPool(Value):
    """The pool and its token (base64 of JSON), which is shown this once.

    For a Fargate pool also the names of the parameters that its tasks read the token and the private key from;
    whoever created the pool puts them there.
    """

    pool: PoolView
    token: str
    token_parameter: str | None = None
    key_parameter: str | None = None


# Workers.


class WorkerView(Value):
    """A worker and what its agent said of itself."""

    id: str
    state: WorkerState
    run: str | None = None
    attempt: int | None = None
    runs_done: int
    created_at: datetime
    seen_at: datetime
    idle_since: datetime | None = None
    busy_since: datetime | None = None
    disconnected_at: datetime | None = None
    task_arn: str | None = None
    agent_version: str = ""
    metadata: dict[str, str] = {}
    note: str | None = None


class WorkerList(Value):
    """A page of a pool's workers, by id, and the cursor of the next page."""

    workers: list[WorkerView]
    cursor: str | None = None


# Runs.


class AcceptedRun(Value):
    """A request that is on its way: the run it leads to (a repeated request leads to the same one)."""

    run: str
    request_id: str
    pool: str


class ChangeView(Value):
    """One entry of a run's history."""

    state: RunState
    version: int
    at: datetime
    by: str
    note: str


class PhaseView(Value):
    """A phase of a run: `state` is PENDING until it has begun, RUNNING, then FINISHED or how the run ended in it."""

    name: str
    state: str
    attempt: int | None = None
    exit_code: int | None = None
    begun_at: datetime | None = None
    ended_at: datetime | None = None
    needs_confirmation: bool = False
    read_only: bool = False
    retryable: bool = False


class LeftWorkspaceView(Value):
    """What a run's finished phases have left in the bucket for those that need confirmation."""

    sha256: str
    bytes: int


class EndingView(Value):
    """The end that has been decided for a run whose process may still act."""

    state: RunState
    reason: Reason
    by: str
    deadline: datetime
    note: str = ""


class LogPlace(Value):
    """Where the log of a run's latest attempt lies in the bucket, or will lie once it has ended."""

    bucket: str
    key: str
    chunks: str


class RunSummary(Value):
    """A run in a list. `pool` is its pool's id; of its command there are as many words as fit into a line."""

    run: str
    pool: str
    pool_name: str | None = None
    request_id: str | None = None
    command: list[str] = []
    type: RunType
    stack: str | None = None
    state: RunState
    reason: Reason | None = None
    exit_code: int | None = None
    attempt: int
    worker: str | None = None
    accepted_at: datetime
    begun_at: datetime | None = None
    ended_at: datetime | None = None


class RunView(RunSummary):
    """A run in full. Of its environment only the names are shown. `requester` is who asked for it, as SQS (`SenderId`),
    the MQTT rule (client and principal) or the API (ARN) says; the first entry of the history tells which of them.

    `worker_seconds` is how long workers have been busy with it, `start_seconds` how long tasks took to start that came
    up for it, `spot_seconds` how much of both was on Spot; `cost` is what that is in dollars on Fargate, by the
    deployment's prices, and null in a private pool and where the prices are not known. `retry_of` is the run that it
    repeats, `retried_as` the one that repeats it. `phases` are there if the request has some; a run that is
    UNCONFIRMED is DISCARDED at `confirm_by` unless somebody confirms it. `image_from` tells who has named the image of
    its containers: its `request`, the `launcher` of its worker's host, its `pool`, or the deployment's `template`.
    """

    version: int
    note: str | None = None
    retryable: bool
    requester: str = ""
    environment: list[str]
    image: str | None = None
    image_from: str | None = None
    tool: Tool = Tool.OTHER
    workspace: str | None = None
    log_timeout: Duration | None = None
    run_timeout: Duration | None = None
    claimed_at: datetime | None = None
    output_at: datetime | None = None
    upload_failing: bool
    losses: int
    offers: int
    worker_seconds: int = 0
    start_seconds: int = 0
    spot_seconds: int = 0
    cost: float | None = None
    phases: list[PhaseView] = []
    confirm_by: datetime | None = None
    left: LeftWorkspaceView | None = None
    ending: EndingView | None = None
    digest: LogDigest | None = None
    usage: Usage | None = None
    log: LogPlace | None = None
    retry_of: str | None = None
    retried_as: str | None = None
    history: list[ChangeView]


class Steer(ApiInput):
    """Why somebody stops, kills or cancels a run; kept in its history."""

    note: Annotated[str, Field(max_length=200)] = ""


class ConfirmRun(Steer):
    """Lets an UNCONFIRMED run go on. What follows sees each of `metadata` as `QUAYMASTER_CONFIRMED_<NAME>`.

    `phase` is the one that is confirmed; without it, whichever waits.
    """

    phase: Annotated[str, Field(max_length=32)] | None = None
    metadata: Annotated[dict[EnvironmentName, Annotated[str, Field(max_length=1024)]], Field(max_length=16)] = {}


class ExtendRun(Steer):
    """Longer timeouts for a run that has begun, counted from its beginning; what is left out stays as it is."""

    log_timeout: Duration | None = None
    run_timeout: Duration | None = None

    @model_validator(mode="after")
    def _something(self) -> "ExtendRun":
        if self.log_timeout is None and self.run_timeout is None:
            raise ValueError("say log_timeout or run_timeout, or both")
        return self


class RunList(Value):
    """Runs of a pool, newest first; `cursor` leads to the next page."""

    runs: list[RunSummary]
    cursor: str | None = None


class Explanation(Value):
    """Why a run is where it is, in one line."""

    run: str
    state: RunState
    why: str


# Logs and inputs.


class LogPiece(Value):
    """One object of a log: gzip of NDJSON lines, read with a GET of `url` while the link lives."""

    key: str
    url: str
    size: int | None = None
    at: datetime | None = None


class LogView(Value):
    """What lies in the bucket of a run's log.

    `chunks` are those behind the cursor that was asked for; hand `cursor` back for the next ones. `final` is the whole
    log, once it is there. When `ended` no more will come; `complete` is false, with a note, when something is missing.
    `begun` says whether the run's latest attempt has come to its command.
    """

    run: str
    state: RunState
    attempt: int
    begun: bool = False
    ended: bool
    complete: bool | None = None
    note: str | None = None
    lines: int | None = None
    final: LogPiece | None = None
    chunks: list[LogPiece] = []
    cursor: str | None = None


class OutputsView(Value):
    """What a run's latest attempt has left for others; of what is sensitive only the names.

    Where its worker's host allows it, `sealed` has those values: base64 of a JSON object, sealed (age) to the pool's
    key.
    """

    run: str
    attempt: int
    outputs: dict[str, JsonValue]
    sensitive: list[str] = []
    sealed: str | None = None


class PrepareUpload(ApiInput):
    """Asks where to put a packed workspace for runs of a pool."""

    pool: Annotated[str, Field(min_length=1, max_length=64)]


class Upload(Value):
    """Where to PUT a packed workspace (a gzipped tar), and the key to name in the request for the run."""

    key: str
    url: str
    max_bytes: int


# Dead letters.


class DeadLetterView(Value):
    """Input that nothing came of, and why. Of its body only a short form is shown, without an environment's values."""

    id: str
    at: datetime
    age_seconds: int
    source: str
    reason: str
    request_id: str | None = None
    pool: str | None = None
    body: str


class DeadLetterList(Value):
    """What lies in the dead-letter queue, oldest first, by the deployment's clock."""

    at: datetime
    dead_letters: list[DeadLetterView]


class DeadLetterDetail(DeadLetterView):
    """A dead letter in full, an environment's values masked.

    `goes_to` is where redriving sends it; when it is null the letter would only fail again, and `kept_because` says
    why.
    """

    content: str
    attributes: dict[str, str]
    goes_to: str | None = None
    kept_because: str | None = None


class DeadLetterChoice(ApiInput):
    """Which dead letters are meant: these, or all that are no younger than a moment."""

    ids: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(min_length=1, max_length=100)] | None
    ) = None
    before: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "DeadLetterChoice":
        if (self.ids is None) == (self.before is None):
            raise ValueError("say either ids or before")
        return self


class RedrivenLetter(Value):
    """A letter that was sent again, and the run it leads to if it is a request."""

    id: str
    to: str
    run: str | None = None


class KeptLetter(Value):
    """A letter that was left where it is."""

    id: str
    reason: str


class Redriven(Value):
    """What became of chosen letters. `missing` are not there (any more); `more` says that not all were looked at."""

    redriven: list[RedrivenLetter]
    kept: list[KeptLetter]
    missing: list[str]
    more: bool


class Purged(Value):
    """The letters that were thrown away. `missing` and `more` as in `Redriven`."""

    purged: list[str]
    missing: list[str]
    more: bool
