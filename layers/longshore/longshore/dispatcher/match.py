"""Matching: tickets meet idle workers until one side reads empty, then tasks are started for the rest.

Called after every write that leaves a ticket or a marker. The write comes first and these reads, consistent and
unfiltered, come second: of two handlers that write opposite sides, at least one so sees both.
"""

from collections.abc import Sequence

from longshore.dispatcher.announce import Assignment, announce
from longshore.dispatcher.launch import launch_tasks
from longshore.dispatcher.pool_cache import Pools
from longshore.domain import deadlines
from longshore.domain.placement import Pair, pair
from longshore.domain.pool import Pool
from longshore.domain.run import claimed
from longshore.domain.states import RunState
from longshore.domain.worker import occupied
from longshore.errors import Busy, Lost
from longshore.ports import MAX_CLAIMS, Delete, Ports, Replace, Write

IDLE_PAGE = 50
"""So many idle workers are read, and one is drawn at random: enough that dispatchers side by side rarely meet."""
ROUNDS = 40
"""Rounds without an end are contention; the message then comes again and goes on."""


def match(ports: Ports, pools: Pools, pool_id: str) -> None:
    """Give tickets to idle workers until there are none of either, and start tasks for the rest.

    Raises Busy when others kept winning, Unavailable when a worker could not be told of its run: in both cases the
    caller's message must come again.
    """
    pool = pools.get(pool_id)
    if not pool:
        return
    contended = False
    for _ in range(ROUNDS):
        tickets = ports.store.tickets(pool_id, MAX_CLAIMS)
        if not tickets:
            return
        markers = ports.store.idle(pool_id, IDLE_PAGE)
        if not markers:
            launch_tasks(ports, pool)
            return
        contended = not _claim_all(ports, pool, pair(tickets, markers, ports.random(32), contended=contended))
    raise Busy(f"pool {pool_id}: others kept winning")


def _claim_all(ports: Ports, pool: Pool, pairs: Sequence[Pair]) -> bool:
    """Claim the pairs in one transaction, smaller ones after a lost race; whether nothing was lost."""
    plans = [plan for p in pairs if (plan := _plan(ports, pool, p))]
    if not plans:
        return False
    try:
        ports.store.commit(*(write for _, writes in plans for write in writes))
    except (Lost, Busy):
        if len(plans) <= 1:
            return False
        half = len(plans) // 2
        done = [_claim_plans(ports, pool, part) for part in (plans[:half], plans[half:])]
        return all(done)
    for assignment, _ in plans:
        announce(ports, pool, assignment)
    return True


def _claim_plans(ports: Ports, pool: Pool, plans: Sequence[tuple[Assignment, list[Write]]]) -> bool:
    won = True
    for assignment, writes in plans:
        try:
            ports.store.commit(*writes)
        except (Lost, Busy):
            won = False
        else:
            announce(ports, pool, assignment)
    return won


def _plan(ports: Ports, pool: Pool, p: Pair) -> tuple[Assignment, list[Write]] | None:
    found = ports.store.run_and_spec(p.ticket.run_id)
    if not found or found[0].state is not RunState.READY:
        return None
    run, spec = found
    now = ports.clock()
    worker = p.marker.worker
    timeouts = deadlines.effective(spec, pool.settings, worker)
    due_at = deadlines.first_look(timeouts, pool.settings, now)
    taken = claimed(run, worker.id, worker.session, now, timeouts, due_at)
    writes: list[Write] = [
        Delete(p.ticket),
        Delete(p.marker),
        Replace(taken),
        Replace(occupied(worker, run.id, taken.attempt, now)),
    ]
    return Assignment(run=taken, spec=spec), writes
