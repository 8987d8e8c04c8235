"""Reserving places for tasks: who waits is read, what is wanted is decided, and the launches are written."""

from collections.abc import Mapping
from datetime import datetime

from quaymaster.dispatcher.tasks.bound import Wish, define, wishes
from quaymaster.domain import ids
from quaymaster.domain.placement import Call, Demand, tasks_wanted
from quaymaster.domain.pool import Launch, Pool, Starts
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Count, Create, Ports, Require

TRIES = 5
PASSED_OVER = 100
"""So many runs that wait for Spot, or for an image, keep none behind them from a task."""
CALLS = 20
"""So many launches are reserved in one transaction."""


def reserve(ports: Ports, pool_id: str) -> list[Launch]:
    """Launches for what waits, each written with its places; their calls are still to be made.

    The queue is read before the launches, and the runs that want a task of their own after them: whatever is started
    in between is then counted once more, or by whoever has made the run wait again.
    """
    reserved: list[Launch] = []
    undefined: set[str] = set()
    for _ in range(TRIES):
        pool, counters = ports.store.pool(pool_id), ports.store.counters(pool_id)
        starts = ports.store.starts(pool_id)
        if not pool or not counters or not starts or not pool.task_definition:
            return reserved
        most = pool.settings.max_workers + (PASSED_OVER if starts.drought else 1)
        queue = ports.store.tickets(pool_id, most)
        idle = len(ports.store.idle(pool_id, pool.settings.warm)) if pool.settings.warm else 0
        launches, now = ports.store.launches(pool_id), ports.clock()
        found = wishes(ports, pool, launches, pool.settings.max_workers + PASSED_OVER, now)
        own = {wish.ticket.run_id: wish for wish in found if wish.ticket.run_id not in undefined}
        demand = Demand(queue=queue, idle=idle, bound=[wish.ticket for wish in own.values()])
        calls = tasks_wanted(pool, demand, launches, counters, starts, now)[:CALLS]
        if not calls:
            _tell_pause(ports, pool, starts, now)
            return reserved
        made = [launch for one in calls if (launch := _launch(ports, pool, one, own, now))]
        undefined |= {one.run for one in calls if one.run} - {launch.run for launch in made}
        if not made:
            continue
        count = sum(launch.count for launch in made)
        places = Count(pool_id, count, pool.settings.max_workers, counters.reservations)
        try:
            ports.store.commit(*map(Create, made), places, Require(pool))
        except (Lost, Busy):
            continue
        reserved += made
    return reserved


def _launch(ports: Ports, pool: Pool, call: Call, own: Mapping[str, Wish], now: datetime) -> Launch | None:
    definition = define(ports, pool, own[call.run]) if call.run else pool.task_definition
    if not definition:
        return None
    return Launch(
        id=ids.ulid(now, ports.random(10)),
        pool_id=pool.id,
        count=call.count,
        run=call.run,
        spot=call.spot,
        task_definition=definition,
        created_at=now,
        due_at=now + pool.settings.accept_timeout,
    )


def _tell_pause(ports: Ports, pool: Pool, starts: Starts, now: datetime) -> None:
    if starts.trouble and now < starts.trouble.retry_at:
        until = starts.trouble.retry_at.isoformat(timespec="seconds")
        ports.log("starts_paused", {"pool": pool.id, "until": until})
