"""Who gets what: pure decisions over a snapshot of a pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from quaymaster.domain.pool import MAX_TASKS_PER_CALL, Counters, Launch, Pool, PoolKind, Starts, Ticket
from quaymaster.domain.spot import Start, start_now
from quaymaster.domain.trouble import TroubleKind
from quaymaster.domain.worker import Marker, Worker

CONTENDED = 4
"""A dispatcher that lost a race picks within so many tickets of the best class, so that racers part."""
LAST = 1_000
"""A class behind all others."""
EVERYBODYS = frozenset({TroubleKind.CAPACITY, TroubleKind.THROTTLED})
"""What keeps a task from coming up that any other, of whatever image, would meet as well."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A ticket and the idle worker that it goes to."""

    ticket: Ticket
    marker: Marker


def shuffled[T](items: Sequence[T], randomness: bytes) -> list[T]:
    """The items in an order that depends on the random bytes alone; dispatchers side by side so pick apart."""
    keyed = [(randomness[i % len(randomness)] * 257 + i * 31 % 251, i) for i in range(len(items))]
    return [items[i] for _, i in sorted(keyed)]


def apart(tickets: Sequence[Ticket], randomness: bytes) -> list[Ticket]:
    """The tickets with the first few of the best class in another order, so that racers part."""
    front = [ticket for ticket in tickets[:CONTENDED] if ticket.rank == tickets[0].rank]
    return [*shuffled(front, randomness), *tickets[len(front) :]]


def pair(tickets: Sequence[Ticket], markers: Sequence[Marker], randomness: bytes, *, contended: bool) -> list[Pair]:
    """Pair the oldest tickets of the best class with idle workers; idle workers are drawn at random."""
    order = apart(tickets, randomness) if contended and len(tickets) > len(markers) else tickets
    return [
        Pair(ticket=ticket, marker=marker) for ticket, marker in zip(order, shuffled(markers, randomness), strict=False)
    ]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a pool's tasks are wanted for.

    The queue, best first, and the workers that are idle already; and the runs that may be given a task of their own
    now, in the same order.
    """

    queue: Sequence[Ticket]
    idle: int = 0
    bound: Sequence[Ticket] = ()


def used_up(pool: Pool, worker: Worker, done: int = 0) -> bool:
    """Whether a task's worker has run all that it may, with `done` runs that it has just ended.

    One that was started for one run takes no other, whatever became of that one.
    """
    return worker.bound or (
        pool.kind_of is PoolKind.FARGATE and worker.runs_done + done >= pool.settings.runs_per_worker
    )


@dataclass(frozen=True, kw_only=True)
class Call:
    """One RunTask call: so many tasks, on Spot or on demand; or the one task of a run."""

    count: int
    spot: bool = False
    run: str | None = None


def tasks_wanted(
    pool: Pool, demand: Demand, launches: Sequence[Launch], counters: Counters, starts: Starts, now: datetime
) -> list[Call]:
    """The tasks to start for the waiting tickets, and so that `warm` workers are idle or about to be.

    Tasks on their way count against the demand, and every reserved task against `max_workers`. A task is started on
    Spot for the class of the run that it is started for; which run it then takes, the queue decides, unless the run is
    bound. What waits takes no place from what does not: neither what waits for Spot, nor, where the pool's own tasks
    do not come up, those from the tasks of other images.
    """
    if pool.kind_of is not PoolKind.FARGATE or not pool.task_definition:
        return []
    settings = pool.settings
    starting = sum(launch.starting for launch in launches if not launch.run)
    room = max(0, settings.max_workers - counters.workers_reserved)
    # Those on their way are there for the first of the queue, then for the warm ones.
    unserved = demand.queue[starting:]
    warm = max(0, settings.warm - demand.idle - max(0, starting - len(demand.queue)))
    trouble = starts.trouble if starts.trouble and now < starts.trouble.retry_at else None
    wanted: list[Ticket | None] = []
    if not trouble:
        wanted += [*unserved, *[None] * warm]
    if not trouble or trouble.kind not in EVERYBODYS:
        wanted += demand.bound
    started: list[tuple[Ticket | None, bool]] = []
    for ticket in sorted(wanted, key=_turn):
        capacity = settings.capacity_for(read_only=ticket.read_only) if ticket else settings.capacity
        start = start_now(capacity, starts.drought, settings.spot_patience, now)
        if start is not Start.WAIT:
            started.append((ticket, start is Start.SPOT))
    return _calls(started[:room])


def _calls(started: Sequence[tuple[Ticket | None, bool]]) -> list[Call]:
    """The calls that start tasks for these tickets, each on Spot or not: as few as can be for those that are alike."""
    shared = [spot for ticket, spot in started if not ticket or not ticket.bound]
    own = [Call(count=1, spot=spot, run=ticket.run_id) for ticket, spot in started if ticket and ticket.bound]
    return [*_full(shared.count(False), spot=False), *_full(shared.count(True), spot=True), *own]


def _turn(ticket: Ticket | None) -> tuple[int, float, str]:
    """Whose task is started first: by class, then by acceptance; a warm one comes last."""
    return (ticket.rank, ticket.accepted_at.timestamp(), ticket.run_id) if ticket else (LAST, 0, "")


def _full(tasks: int, *, spot: bool) -> list[Call]:
    full, rest = divmod(tasks, MAX_TASKS_PER_CALL)
    return [Call(count=count, spot=spot) for count in [MAX_TASKS_PER_CALL] * full + ([rest] if rest else [])]
