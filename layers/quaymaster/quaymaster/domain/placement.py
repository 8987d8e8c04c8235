"""Who gets what: pure decisions over a snapshot of a pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from quaymaster.domain.pool import MAX_TASKS_PER_CALL, Counters, Launch, Pool, PoolKind, Starts, Ticket
from quaymaster.domain.spot import Start, start_now
from quaymaster.domain.worker import Marker, Worker

CONTENDED = 4
"""A dispatcher that lost a race picks within so many tickets of the best class, so that racers part."""


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
    """What a pool's tasks are wanted for: the queue, best first, and the workers that are idle already."""

    queue: Sequence[Ticket]
    idle: int = 0


def used_up(pool: Pool, worker: Worker, done: int = 0) -> bool:
    """Whether a task's worker has run all that it may, with `done` runs that it has just ended."""
    return pool.kind_of is PoolKind.FARGATE and worker.runs_done + done >= pool.settings.runs_per_worker


@dataclass(frozen=True, kw_only=True)
class Call:
    """One RunTask call: so many tasks, on Spot or on demand."""

    count: int
    spot: bool = False


def tasks_wanted(
    pool: Pool, demand: Demand, launches: Sequence[Launch], counters: Counters, starts: Starts, now: datetime
) -> list[Call]:
    """The tasks to start for the waiting tickets, and so that `warm` workers are idle or about to be.

    Tasks on their way count against the demand, and every reserved task against `max_workers`. A task is started on
    Spot for the class of the run that it is started for; which run it then takes, the queue decides. What waits for
    Spot takes no place from what does not.
    """
    if pool.kind_of is not PoolKind.FARGATE or not pool.task_definition:
        return []
    settings = pool.settings
    starting = sum(launch.starting for launch in launches)
    room = max(0, settings.max_workers - counters.workers_reserved)
    # Those on their way are there for the first of the queue, then for the warm ones.
    unserved = demand.queue[starting:]
    warm = max(0, settings.warm - demand.idle - max(0, starting - len(demand.queue)))
    capacities = [settings.capacity_for(read_only=ticket.read_only) for ticket in unserved]
    capacities += [settings.capacity] * warm
    chosen = [start_now(capacity, starts.drought, settings.spot_patience, now) for capacity in capacities]
    started = [start for start in chosen if start is not Start.WAIT][:room]
    spot = started.count(Start.SPOT)
    return [*_calls(len(started) - spot, spot=False), *_calls(spot, spot=True)]


def _calls(tasks: int, *, spot: bool) -> list[Call]:
    full, rest = divmod(tasks, MAX_TASKS_PER_CALL)
    return [Call(count=count, spot=spot) for count in [MAX_TASKS_PER_CALL] * full + ([rest] if rest else [])]
