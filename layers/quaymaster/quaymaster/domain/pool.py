"""A pool: its settings, its counters, its tickets and its launches."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from quaymaster.domain import ids, keys
from quaymaster.domain.cost import Month, Spent
from quaymaster.domain.keys import Key
from quaymaster.domain.messages import Executor
from quaymaster.domain.prices import Architecture
from quaymaster.domain.push import Push
from quaymaster.domain.requests import RunType
from quaymaster.domain.run import Run
from quaymaster.domain.spot import Capacity, Drought, longer
from quaymaster.domain.trouble import StartFailure, Trouble, after_failure

MAX_TASKS_PER_CALL = 10
KEPT_MONTHS = 13
"""Of so many months it is kept what a pool's tasks have taken."""


class PoolKind(StrEnum):
    """`private`: workers connect by themselves. `fargate`: Quaymaster starts them."""

    PRIVATE = "private"
    FARGATE = "fargate"


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """Every default that a pool may set."""

    log_timeout: timedelta = timedelta(minutes=7)
    run_timeout: timedelta = timedelta(minutes=70)
    max_log_timeout: timedelta = timedelta(hours=2)
    max_run_timeout: timedelta = timedelta(hours=24)
    accept_timeout: timedelta = timedelta(seconds=15)
    prepare_timeout: timedelta = timedelta(minutes=10)
    lease: timedelta = timedelta(minutes=3)
    stop_grace: timedelta = timedelta(seconds=20)
    lost_slack: timedelta = timedelta(minutes=1)
    backstop_slack: timedelta = timedelta(minutes=4)
    warning: timedelta = timedelta(seconds=60)
    grant_life: timedelta = timedelta(minutes=30)
    idle_timeout: timedelta = timedelta(minutes=5)
    start_timeout: timedelta = timedelta(minutes=1)
    start_failure_limit: timedelta = timedelta(minutes=15)
    queue_timeout: timedelta = timedelta(hours=24)
    confirmation_timeout: timedelta = timedelta(days=7)
    losses: int = 3
    offers: int = 10
    max_workers: int = 10
    runs_per_worker: int = 1
    warm: int = 0
    capacity: Capacity = Capacity.ON_DEMAND
    read_only_capacity: Capacity | None = None
    """For tasks that are started for runs which change nothing (proposed, drift); None: as for all others."""
    spot_patience: timedelta = timedelta()
    """How long `spot_then_on_demand` waits for Spot, from its first refusal on."""
    images: tuple[str, ...] = ()
    """Which images a run may name that are not its pool's, as patterns: it then has a task of its own."""
    log_cap_bytes: int = 1 << 30
    workspace_cap_bytes: int = 2 << 30

    @property
    def lost_after(self) -> timedelta:
        """How long a worker must be silent everywhere before it is called lost."""
        return self.lease + self.stop_grace + self.lost_slack

    def capacity_for(self, *, read_only: bool) -> Capacity:
        """Where tasks for runs of this class are started."""
        return self.read_only_capacity or self.capacity if read_only else self.capacity

    @property
    def capacities(self) -> set[Capacity]:
        """All that any class of runs uses."""
        return {self.capacity_for(read_only=read_only) for read_only in (True, False)}

    @property
    def longest_patience(self) -> timedelta | None:
        """How long any class of runs waits for Spot; None for as long as it has none."""
        return None if Capacity.SPOT in self.capacities else self.spot_patience


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A set of workers with one certificate, limits and settings.

    What a Fargate pool's tasks are made of is in its task definition; `image`, `cpu` (units), `memory` (MiB),
    `architecture` and `task_role` say where that differs from the deployment's model. Where workers run containers,
    `image` is what those are made of unless a run, or its worker's host, has another.
    """

    id: str
    name: str
    kind_of: PoolKind
    version: int = 1
    generation: int = 1
    settings: PoolSettings = field(default_factory=PoolSettings)
    certificate_id: str
    certificate_arn: str
    certificate_expires_at: datetime | None = None
    task_definition: str | None = None
    image: str | None = None
    cpu: int | None = None
    memory: int | None = None
    architecture: Architecture | None = None
    task_role: str | None = None
    executor: Executor = Executor.PROCESS
    """What its workers run commands in; for good, because a claim looks for any of them."""
    created_at: datetime
    updated_at: datetime

    kind: ClassVar[str] = "pool"

    @property
    def key(self) -> Key:
        return keys.pool(self.id)


@dataclass(frozen=True, kw_only=True)
class PoolEntry:
    """A pool in the directory of all pools."""

    pool_id: str
    name: str
    version: int = 1

    kind: ClassVar[str] = "pool_entry"

    @property
    def key(self) -> Key:
        return keys.pool_entry(self.pool_id)


@dataclass(frozen=True, kw_only=True)
class PoolName:
    """Keeps a pool's name unique."""

    name: str
    pool_id: str
    version: int = 1

    kind: ClassVar[str] = "pool_name"

    @property
    def key(self) -> Key:
        return keys.pool_name(self.name)


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What limits count. A counter moves only in the transaction of the state that it counts, by an atomic update."""

    pool_id: str
    workers_reserved: int = 0
    reservations: int = 0
    """So many times were places reserved: of two who reserve by the same queue, one loses."""
    months: Mapping[str, Month] = field(default_factory=dict[str, Month])
    """What the tasks that stopped have taken, by the month in which they did."""
    version: int = 1

    kind: ClassVar[str] = "counters"

    @property
    def key(self) -> Key:
        return keys.counters(self.pool_id)

    def counted(self, workers: int, spent: Spent | None = None) -> "Counters":
        """With so many workers more (or, negative, fewer), and what a task that stopped has taken."""
        months = dict(self.months)
        if spent:
            months[spent.month] = months.get(spent.month, Month()).plus(spent)
        reserved = self.workers_reserved + workers
        return replace(self, workers_reserved=reserved, months=months, version=self.version + 1)

    def corrected(self, workers: int) -> "Counters":
        """With the count as it should be, and without the months that are long past."""
        kept = {name: self.months[name] for name in sorted(self.months)[-KEPT_MONTHS:]}
        return replace(self, workers_reserved=workers, months=kept, version=self.version + 1)


@dataclass(frozen=True, kw_only=True)
class Starts:
    """What stands against starting a pool's tasks. Those who reserve places, or give them back, do not touch it."""

    pool_id: str
    trouble: Trouble | None = None
    drought: Drought | None = None
    version: int = 1

    kind: ClassVar[str] = "starts"

    @property
    def key(self) -> Key:
        return keys.starts(self.pool_id)

    def without_spot(self, note: str, settings: PoolSettings, now: datetime, randomness: bytes) -> "Starts":
        """Spot had nothing to give."""
        drought = longer(self.drought, note, settings.longest_patience, now, randomness)
        return replace(self, drought=drought, version=self.version + 1)

    def with_spot(self) -> "Starts":
        """Spot has served a call in full."""
        return replace(self, drought=None, version=self.version + 1)

    def troubled(self, failure: StartFailure, now: datetime, randomness: bytes) -> "Starts":
        """With one more start that came to nothing."""
        return replace(self, trouble=after_failure(self.trouble, failure, now, randomness), version=self.version + 1)

    def retried(self) -> "Starts":
        """Somebody has mended what stood against it, on Spot as well: the next start is tried at once."""
        return replace(self, trouble=None, drought=None, version=self.version + 1)

    def untroubled(self) -> "Starts":
        """A task became a worker: whatever stood against it is over."""
        return replace(self, trouble=None, version=self.version + 1)


RANK = {RunType.TRACKED: 2, RunType.DESTROY: 2, RunType.TASK: 2, RunType.PROPOSED: 3, RunType.DRIFT: 4}
"""The class of each type in the queue; 1 is kept for runs that a user prioritized."""


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """Present exactly while its run is READY. One that is bound is for a task that is started for its run alone."""

    pool_id: str
    rank: int
    accepted_at: datetime
    run_id: str
    bound: bool = False
    confirmed_at: datetime | None = None
    version: int = 1

    kind: ClassVar[str] = "ticket"

    @property
    def waits_since(self) -> datetime:
        """Since when its run waits: one that was confirmed has the place of its acceptance, but waits since then."""
        return self.confirmed_at or self.accepted_at

    @property
    def read_only(self) -> bool:
        """Whether its run changes nothing, by its class."""
        return self.rank >= RANK[RunType.PROPOSED]

    @property
    def key(self) -> Key:
        made = keys.bound_ticket if self.bound else keys.ticket
        return made(self.pool_id, self.rank, self.accepted_at, self.run_id)


def ticket_for(run: Run) -> Ticket:
    """The queue entry of a READY run."""
    return Ticket(
        pool_id=run.pool_id,
        rank=RANK[run.type],
        accepted_at=run.accepted_at,
        run_id=run.id,
        bound=run.bound,
        confirmed_at=run.confirmed_at,
    )


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A RunTask call: reserved first, then made, then followed until its last task has stopped.

    `count` tasks are reserved. `tasks` are ARNs that ECS named; `joined` and `stopped` are task ids, each at most
    once, so that a doubled or early event counts once; so are `late`, which are being stopped because no worker has
    joined for them, and none joins any more. `attempt` numbers the tries of the call. `run`: its one task is started
    for this run alone.
    """

    id: str
    pool_id: str
    count: int
    task_definition: str
    run: str | None = None
    attempt: int = 1
    spot: bool = False
    version: int = 1
    created_at: datetime
    tasks: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    answered: bool = False
    answered_at: datetime | None = None
    note: str | None = None
    due_at: datetime | None = None
    push: Push | None = None

    kind: ClassVar[str] = "launch"

    @property
    def key(self) -> Key:
        return keys.launch(self.pool_id, self.id)

    @property
    def called_at(self) -> datetime:
        """Since when its tasks are on their way, at the latest: a call that ECS throttles may be made hours later."""
        return self.answered_at or self.created_at

    @property
    def token(self) -> str:
        """The clientToken: the same for a repeated try, another for the next."""
        return f"{self.id}.{self.attempt}"

    def task_of(self, task_id: str) -> str | None:
        """The ARN that ECS named for a task; None until the answer is known, or when it is not of this launch."""
        return next((arn for arn in self.tasks if ids.task_id(arn) == task_id), None)

    @property
    def counted(self) -> set[str]:
        """Ids of the tasks that are known to hold a place of it."""
        return {*map(ids.task_id, self.tasks), *self.joined}.difference(self.stopped)

    @property
    def starting(self) -> int:
        """Tasks on their way that no worker has joined for yet."""
        return max(0, self.count - len({*self.joined, *self.stopped}))

    @property
    def places(self) -> int:
        """How many of the pool's places it holds."""
        return max(0, self.count - len(self.stopped))

    @property
    def is_over(self) -> bool:
        """Whether nothing of it can still run: the answer is known, and every task in it has stopped."""
        return self.answered and len(self.stopped) >= self.count


def followed(launch: Launch, due_at: datetime | None) -> Launch:
    """The launch after a change: looked at again at `due_at`."""
    return replace(launch, version=launch.version + 1, due_at=due_at)
