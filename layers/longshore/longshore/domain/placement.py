"""Who gets what: pure decisions over a snapshot of a pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from longshore.domain.pool import MAX_TASKS_PER_CALL, Counters, Launch, Pool, PoolKind, Ticket
from longshore.domain.worker import Marker

CONTENDED = 4
"""A dispatcher that lost a race picks within so many tickets of the best class, so that racers part."""

FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=15)
"""How long no task is started after two launches in a row that came to nothing; twice as long after each further."""


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


def starts_paused_until(launches: Sequence[Launch], retention: timedelta) -> datetime | None:
    """Until when no task should be started, because the last launches came to nothing: ECS refused them, or no task of
    theirs became a worker. What makes one start fail makes the next one fail too, and each of them costs.

    `retention` is how long a launch that is over is kept.
    """
    failures: list[datetime] = []
    for launch in sorted(launches, key=lambda launch: launch.created_at, reverse=True):
        if launch.joined:
            break
        if launch.is_over and launch.expires_at:
            failures.append(launch.expires_at - retention)
    if len(failures) < 2:
        return None
    return max(failures) + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(len(failures) - 2, 10))


def tasks_wanted(pool: Pool, waiting: int, launches: Sequence[Launch], counters: Counters) -> list[int]:
    """How many tasks to start for the waiting tickets, as the sizes of RunTask calls.

    Tasks on their way count against the demand, and every reserved task against `max_workers`.
    """
    if pool.kind_of is not PoolKind.FARGATE or not pool.task_definition:
        return []
    starting = sum(launch.starting for launch in launches)
    room = pool.settings.max_workers - counters.workers_reserved
    wanted = max(0, min(waiting - starting, room))
    full, rest = divmod(wanted, MAX_TASKS_PER_CALL)
    return [MAX_TASKS_PER_CALL] * full + ([rest] if rest else [])
