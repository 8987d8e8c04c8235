"""Matching: tickets meet idle workers until one side reads empty, then tasks are started for the rest.

Called after every write that leaves a ticket or a marker. The write comes first and these reads, consistent and
unfiltered, come second: of two handlers that write opposite sides, at least one so sees both.
"""

from collections.abc import Sequence

from quaymaster.dispatcher.placing.announce import Assignment, announce_all
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.tasks.launch import launch_tasks
from quaymaster.domain import deadlines
from quaymaster.domain.placement import Pair, pair
from quaymaster.domain.pool import Pool
from quaymaster.domain.run import claimed
from quaymaster.domain.states import RunState
from quaymaster.domain.worker import occupied
from quaymaster.errors import Busy, Lost
from quaymaster.ports import MAX_CLAIMS, Delete, Ports, Replace, Write

IDLE_PAGE = 50
"""So many idle workers are read, and one is drawn at random: enough that dispatchers side by side rarely meet."""
ROUNDS = 12
"""So many rounds in a row that won nothing are contention; the message then comes again and goes on."""

type Claim = tuple[Assignment, list[Write]]
"""A run as it will stand, and the writes that make it so."""


def match(ports: Ports, pools: Pools, pool_id: str) -> None:
    """Give tickets to idle workers until there are none of either, and start tasks for the rest.

    Raises Busy when others kept winning, Unavailable when a worker could not be told of its run: in both cases the
    caller's message must come again.
    """
    pool = pools.get(pool_id)
    if not pool:
        return
    lost = 0
    while lost < ROUNDS:
        tickets = ports.store.tickets(pool_id, MAX_CLAIMS)
        if not tickets:
            if pool.settings.images and ports.store.bound(pool_id, 1):
                launch_tasks(ports, pool)
            return
        markers = ports.store.idle(pool_id, IDLE_PAGE)
        if not markers:
            launch_tasks(ports, pool)
            return
        won = _claim_all(ports, pool, pair(tickets, markers, ports.random(32), contended=lost > 0))
        lost = 0 if won else lost + 1
    raise Busy(f"pool {pool_id}: others kept winning")


def _claim_all(ports: Ports, pool: Pool, pairs: Sequence[Pair]) -> bool:
    """Claim the pairs in one transaction, each by itself after a lost race; whether any was won."""
    plans = [plan for p in pairs if (plan := _plan(ports, pool, p))]
    won = _claim(ports, plans)
    if not won and len(plans) > 1:
        won = [plan for one in plans for plan in _claim(ports, [one])]
    announce_all(ports, pool, [assignment for assignment, _ in won])
    return bool(won)


def _claim(ports: Ports, plans: list[Claim]) -> list[Claim]:
    """The claims that were made: all of these, or none."""
    if not plans:
        return []
    try:
        ports.store.commit(*(write for _, writes in plans for write in writes))
    except (Lost, Busy):
        return []
    return plans


def _plan(ports: Ports, pool: Pool, p: Pair) -> Claim | None:
    found = ports.store.run_and_spec(p.ticket.run_id)
    if not found or found[0].state is not RunState.READY:
        return None
    run, spec = found
    now = ports.clock()
    worker = p.marker.worker
    timeouts = deadlines.effective(spec, pool.settings, worker, run.leg)
    due_at = deadlines.first_look(timeouts, pool.settings, now)
    taken = claimed(run, worker.id, worker.session, now, timeouts, due_at, leg=spec.leg(run), spot=worker.spot)
    writes: list[Write] = [
        Delete(p.ticket),
        Delete(p.marker),
        Replace(taken),
        Replace(occupied(worker, run.id, taken.attempt, now)),
    ]
    return Assignment(run=taken, spec=spec), writes
