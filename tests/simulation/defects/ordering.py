"""The ordering rule is broken: who leaves a ticket or a marker does not look at the other side."""

from typing import Any

from quaymaster.dispatcher import release
from quaymaster.dispatcher.placing import match
from quaymaster.dispatcher.reaper import due, sweep
from quaymaster.dispatcher.requests import inbox, submit
from quaymaster.dispatcher.workers import finish, register, task_events
from quaymaster.errors import Busy

from tests.simulation.defects.mutation import Patch, mutation, nothing
from tests.simulation.violation import Invariant as I


@mutation(I.NO_LOST_WAKE_UP)
def the_idle_are_not_read_again_after_a_ticket(patch: Patch) -> None:
    patch.setattr(submit, "match", nothing)


@mutation(I.NO_LOST_WAKE_UP)
def the_tickets_are_not_read_again_after_a_marker(patch: Patch) -> None:
    patch.setattr(register, "match", nothing)


@mutation(I.NO_LOST_WAKE_UP)
def contention_is_taken_for_an_empty_queue(patch: Patch) -> None:
    """A claim that met others gives up, instead of reading again."""
    patch.setattr(match, "ROUNDS", 1)

    shipped = match.match

    def gives_up(ports: Any, pools: Any, pool_id: str) -> None:
        try:
            shipped(ports, pools, pool_id)
        except Busy:
            return

    for module in (submit, register, finish, release, task_events, sweep, inbox):
        patch.setattr(module, "match", gives_up)


@mutation(I.HEALED_BY_SWEEP, I.NO_LOST_WAKE_UP)
def the_sweep_wakes_no_ticket(patch: Patch) -> None:
    patch.setattr(sweep, "match", nothing)


@mutation(I.ALL_ENDS, I.OFFERED_AGAIN, I.IN_TIME)
def the_due_are_not_looked_at(patch: Patch) -> None:
    patch.setattr(due, "_take", nothing)
