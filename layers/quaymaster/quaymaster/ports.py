"""What the use cases need from outside, as small Protocols; `adapters` fulfil them.

All adapters raise the errors of `quaymaster.errors` only.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import IO, Protocol

from quaymaster.domain import keys
from quaymaster.domain.cost import Spent
from quaymaster.domain.images import ImageDefinition
from quaymaster.domain.keys import Key
from quaymaster.domain.messages import Grants, LogEnd, ToAgent, WorkspaceGrant
from quaymaster.domain.pool import Counters, Launch, Pool, PoolEntry, PoolName, PoolSettings, Starts, Ticket
from quaymaster.domain.prices import Architecture
from quaymaster.domain.requests import EndReply, Reply
from quaymaster.domain.run import Run, Spec
from quaymaster.domain.trouble import TroubleKind
from quaymaster.domain.wakes import Wake as Wake
from quaymaster.domain.worker import Agent, Marker, Worker

type Record = (
    Agent
    | Counters
    | ImageDefinition
    | Launch
    | Marker
    | Pool
    | PoolEntry
    | PoolName
    | Run
    | Spec
    | Starts
    | Ticket
    | Worker
)
"""Everything that lies in the table. Each record knows its `key` and its `version`."""

type Clock = Callable[[], datetime]
"""The control plane's time, in UTC."""

MAX_CLAIMS = 20
MAX_ACTIONS = 90


@dataclass(frozen=True)
class Create:
    """Write a record that must not exist yet."""

    record: Record


@dataclass(frozen=True)
class Replace:
    """Write a record over the one before it: the stored version must be `record.version - 1`."""

    record: Record


@dataclass(frozen=True)
class Delete:
    """Remove a record that must still stand at this version."""

    record: Record


@dataclass(frozen=True)
class Require:
    """Write nothing, but insist that the record still stands at this version."""

    record: Record


@dataclass(frozen=True)
class Count:
    """Move a pool's count of reserved workers, whatever it stands at, and its version with it.

    No other change of the count makes it lose: many may move it at once. A reservation names the `reservations` that
    were made before it, and the `most` that may be reserved after it. With a place goes what its task has `spent`.
    """

    pool_id: str
    workers: int
    most: int | None = None
    reservations: int | None = None
    spent: Spent | None = None

    @property
    def key(self) -> Key:
        return keys.counters(self.pool_id)


type Write = Create | Replace | Delete | Require | Count


def key_of(write: Write) -> Key:
    """The item that a write is about."""
    return write.key if isinstance(write, Count) else write.record.key


def rewritten(before: Record, after: Record) -> tuple[Write, ...]:
    """The writes that put `after` in the place of `before`: where it lay, or where it lies from now on.

    A launch that is over is taken away: its runs and its workers say what became of it.
    """
    if isinstance(after, Launch) and after.is_over:
        return (Delete(before),)
    return (Replace(after),) if before.key == after.key else (Delete(before), Create(after))


@dataclass(frozen=True)
class RunPage:
    """A page of runs, newest first, and the cursor of the next page."""

    runs: tuple[Run, ...]
    cursor: str | None = None


@dataclass(frozen=True)
class WorkerPage:
    """A page of workers, and the cursor of the next page."""

    workers: tuple[Worker, ...]
    cursor: str | None = None


class Store(Protocol):
    """The table. Reads are consistent except `overdue` and `runs_of` (they go by an index) and say no more than was
    true at some moment; only a commit decides."""

    def commit(self, *writes: Write) -> None:
        """Make all writes, or none.

        Raises Lost, with the keys that were not as expected, when a condition failed; Busy when others were writing
        the same items and retries did not help; Unavailable when the table did not answer. A commit that was made
        although its answer was lost counts as made.
        """
        ...

    def pool(self, pool_id: str) -> Pool | None: ...

    def pool_named(self, name: str) -> str | None:
        """The id of the pool of that name."""
        ...

    def pools(self) -> list[PoolEntry]:
        """The directory, by id."""
        ...

    def counters(self, pool_id: str) -> Counters | None: ...

    def starts(self, pool_id: str) -> Starts | None: ...

    def run(self, run_id: str) -> Run | None: ...

    def run_and_spec(self, run_id: str) -> tuple[Run, Spec] | None:
        """Both items of a run, in one read."""
        ...

    def runs(self, run_ids: Iterable[str]) -> dict[str, Run]:
        """Those of the runs that exist."""
        ...

    def specs(self, run_ids: Iterable[str]) -> dict[str, Spec]:
        """What those of the runs execute that exist."""
        ...

    def worker(self, pool_id: str, worker_id: str) -> Worker | None:
        """A worker, also one that is over."""
        ...

    def workers(self, pool_id: str) -> list[Worker]:
        """The workers that are not over."""
        ...

    def workers_of(self, pool_id: str, limit: int, cursor: str | None = None, *, over: bool = False) -> WorkerPage:
        """The workers that are not over, or those that are, by id, a page at a time. Raises Refused for the cursor."""
        ...

    def agents(self, pool_id: str, worker_ids: Iterable[str]) -> dict[str, Agent]:
        """What the agents of these workers said of themselves, by worker."""
        ...

    def agent(self, pool_id: str, worker_id: str) -> Agent | None: ...

    def idle(self, pool_id: str, limit: int) -> list[Marker]:
        """Idle workers in the order of their random keys."""
        ...

    def tickets(self, pool_id: str, limit: int) -> list[Ticket]:
        """READY runs that any idle worker may take, best class first, oldest first within a class."""
        ...

    def bound(self, pool_id: str, limit: int) -> list[Ticket]:
        """READY runs that wait for a task of their own, in the same order."""
        ...

    def image_definition(self, pool_id: str, made_from: str, image: str) -> ImageDefinition | None: ...

    def image_definitions(self, pool_id: str) -> list[ImageDefinition]:
        """Every task definition that was made for an image."""
        ...

    def launch(self, pool_id: str, launch_id: str) -> Launch | None:
        """A launch that is not over."""
        ...

    def launches(self, pool_id: str) -> list[Launch]:
        """The launches that are not over, oldest first."""
        ...

    def overdue(self, now: datetime, limit: int) -> list[Key]:
        """Keys of runs and workers whose `due_at` has passed; may be stale in both directions."""
        ...

    def due(self, key: Key) -> Run | Worker | Launch | None:
        """The record behind a key of `overdue`, as it is now."""
        ...

    def runs_of(self, pool_id: str, limit: int, cursor: str | None = None) -> RunPage:
        """Runs of a pool, newest first."""
        ...


class Messenger(Protocol):
    """MQTT from the control plane. Delivery is never certain; every message can be repeated."""

    def send(self, pool_id: str, worker_id: str, message: ToAgent, expires: timedelta | None = None) -> None:
        """Publish to one worker. Raises Unavailable."""
        ...

    def reply(self, topic: str, message: Reply | EndReply) -> None:
        """Publish the answer to a request, or how its run ended. Raises Unavailable."""
        ...


class QueueName(StrEnum):
    """The queues that the dispatcher reads: one is every requester's, the other this deployment's own."""

    REQUESTS = "requests"
    INTERNAL = "internal"


class Queue(Protocol):
    """The internal queue and the dead letters."""

    def wake(self, what: Wake, delay: timedelta) -> None:
        """Have the dispatcher look at something after a delay (at most 15 minutes). Raises Unavailable."""
        ...

    def refuse(self, body: str, reason: str, source: str, sender: str = "") -> None:
        """Put input that was refused, with its reason and who sent it, among the dead letters. Raises Unavailable."""
        ...

    def send(self, message: str) -> None:
        """Put a request with who asked, or a wake-up, into the internal queue. Raises Unavailable."""
        ...

    def dead_letters(self, limit: int) -> list["DeadLetter"]:
        """What lies in the dead-letter queue now, oldest first, left where it is. Raises Unavailable."""
        ...

    def sift_dead_letters(self, done: Callable[["DeadLetter"], bool], limit: int) -> int:
        """Hand up to `limit` letters to `done`, each once and hidden from others meanwhile; how many it were.

        A letter that `done` says True of is removed at once; any other is left where it is. Raises Unavailable, and
        whatever `done` raises: then the letter in hand is left too.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A message of the dead-letter queue as it lies there; `attributes` are its string attributes.

    `moved_from` is the queue that SQS took it from, and `sender` then who had put it there: from the request queue
    everything in it is as a requester wrote it. No other letter is a requester's word: only functions and rules may
    write to the dead-letter queue.
    """

    id: str
    sent_at: datetime
    body: str
    attributes: dict[str, str]
    moved_from: QueueName | None = None
    sender: str = ""


class FunctionName(StrEnum):
    """A function whose events may be handed to it again, by the end of its name."""

    RECEIVE_WORKER_EVENTS = "receive-worker-events"
    RECEIVE_TASK_EVENTS = "receive-task-events"


class Functions(Protocol):
    """The deployment's own functions, for events that they have failed to handle."""

    def invoke(self, name: FunctionName, event: str) -> None:
        """Have a function handle an event (JSON) soon, with retries of its own. Raises Unavailable."""
        ...


@dataclass(frozen=True)
class Started:
    """What RunTask answered: ARNs of accepted tasks, and a line for each that was refused, of the worst kind there."""

    tasks: tuple[str, ...]
    failures: tuple[str, ...] = ()
    kind: TroubleKind = TroubleKind.CAPACITY


class Tasks(Protocol):
    """ECS."""

    def run(self, launch: Launch, pool: Pool) -> Started:
        """Start the launch's tasks; repeating it with the same token starts nothing more.

        Raises NoCapacity when this call started nothing for want of it, Refused when ECS never will; an earlier call of
        the launch may have been made all the same. Throttled or Unavailable when nobody knows whether anything was.
        """
        ...

    def stop(self, task_arn: str, reason: str) -> None:
        """Stop a task; one that is no more counts as stopped. Raises Unavailable."""
        ...

    def of_launch(self, launch: Launch) -> list[str]:
        """ARNs of the launch's tasks that have not stopped. Raises Unavailable."""
        ...

    def of_pool(self, pool_id: str) -> list[str]:
        """ARNs of the tasks of the pool's family that are to run, as ECS lists them: it may lag. Raises Unavailable."""
        ...

    def started_by(self, task_arns: Sequence[str]) -> dict[str, str]:
        """Of up to 100 tasks, those that are to run, and who says that he started them: a launch's id, or anything.

        Raises Unavailable.
        """
        ...

    def running_since(self, task_arns: Sequence[str]) -> dict[str, datetime]:
        """Of up to 100 tasks, those that run and are to go on, and since when. Raises Unavailable."""
        ...

    def check(self, image: str | None) -> None:
        """Look whether tasks of this image (None: of the deployment's) can be started at all.

        Raises Refused for subnets, security groups or an image that are not there, Unavailable.
        """
        ...

    def define(self, pool_id: str, settings: "TaskSettings") -> str:
        """Register the pool's own task definition; its ARN."""
        ...

    def define_image(self, task_definition: str, image: str) -> str:
        """Register a task definition again, in the same family, with another image; the ARN.

        Raises Refused when ECS will not have it, Throttled or Unavailable when it does not answer. Repeating makes
        another revision.
        """
        ...

    def definitions(self, pool_id: str) -> list[str]:
        """ARNs of the pool's family that may be run. Raises Unavailable."""
        ...

    def retire(self, task_definition: str, younger: timedelta) -> bool:
        """Let a definition be run no more, unless it was registered within the last `younger`; whether it was retired.

        Its tasks go on. Raises Unavailable.
        """
        ...


@dataclass(frozen=True)
class TaskSettings:
    """What a pool's own task definition differs in from the model; None keeps the model's value."""

    token_parameter: str
    key_parameter: str
    image: str | None = None
    cpu: int | None = None
    memory: int | None = None
    architecture: Architecture | None = None
    task_role: str | None = None


@dataclass(frozen=True)
class Chunk:
    """A log chunk that lies in the bucket."""

    key: str
    at: datetime
    size: int


class Blobs(Protocol):
    """The bucket."""

    @property
    def url(self) -> str:
        """Where it answers. Calls nothing."""
        ...

    def grants(self, pool_id: str, run_id: str, attempt: int, settings: PoolSettings, *, pack: bool = False) -> Grants:
        """Presigned permission to write one attempt's log and outputs, and (`pack`) the workspace that it leaves.

        Calls nothing.
        """
        ...

    def workspace(self, key: str, sha256: str | None, life: timedelta) -> WorkspaceGrant:
        """Presigned permission to read a workspace. Calls nothing."""
        ...

    def upload_url(self, key: str, life: timedelta) -> str:
        """Presigned PUT of a workspace by the user. Calls nothing."""
        ...

    def download_url(self, key: str, life: timedelta) -> str:
        """Presigned GET of a log or a chunk by the user. Calls nothing."""
        ...

    def newest_chunk(self, pool_id: str, run_id: str, attempt: int, after: str | None) -> Chunk | None:
        """The last chunk behind the key `after`. Raises Unavailable: then nobody may be called silent."""
        ...

    def chunks(self, pool_id: str, run_id: str, attempt: int, after: str | None = None) -> list[Chunk]:
        """An attempt's chunks in their order. Raises Unavailable."""
        ...

    def log_end(self, pool_id: str, run_id: str, attempt: int) -> LogEnd | None:
        """The attempt's end marker, if its log is complete. Raises Unavailable."""
        ...

    def read(self, key: str) -> IO[bytes] | None:
        """A stream of an object's bytes, or None when there is none. Raises Unavailable."""
        ...

    def is_there(self, key: str) -> bool:
        """Whether there is such an object. Raises Unavailable."""
        ...

    def write_input(self, key: str, body: bytes) -> None:
        """Write an object that a worker will read, unless it is there already. Raises Unavailable."""
        ...

    def write_log(self, pool_id: str, run_id: str, attempt: int, body: IO[bytes], end: LogEnd) -> bool:
        """Write the final log and then its end marker, each only if absent; False when they were there already."""
        ...


@dataclass(frozen=True)
class Certificate:
    """A client certificate for agents."""

    id: str
    arn: str
    pem: str
    expires_at: datetime | None


class Certificates(Protocol):
    """Agents' certificates and where they connect."""

    def issue(self, pool_id: str, csr: str) -> Certificate:
        """A certificate for a CSR, active and pinned to the pool's topics. Raises Refused for a CSR that is no good."""
        ...

    def endpoints(self) -> tuple[Sequence[tuple[str, int]], str | None]:
        """Host and port of each broker address, best first, and the CA's PEM (None: the system's trust store)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Everything a use case may touch, beside its arguments. `namespace` begins every worker's id."""

    namespace: str
    store: Store
    messenger: Messenger
    queue: Queue
    tasks: Tasks
    blobs: Blobs
    certificates: Certificates
    clock: Clock
    random: Callable[[int], bytes]
    log: Callable[[str, dict[str, str | int | float | None]], None]
    """Structured log and metric line: an event's name and its fields; never a secret."""
    runner_image: str | None = None
    """Of the containers of runs for which nobody else has named an image."""


def pages[T](items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
