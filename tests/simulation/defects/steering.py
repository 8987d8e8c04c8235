"""People steer runs, and what they did is not kept apart from what agents do."""

from dataclasses import replace
from typing import Any

from quaymaster.dispatcher.reaper import due
from quaymaster.dispatcher.steering import cancel, stop
from quaymaster.dispatcher.workers import finish
from quaymaster.domain.run import Run, ended_as_decided
from quaymaster.domain.states import RunState
from quaymaster.ports import Ports, Replace

from tests.simulation.defects.mutation import Patch, mutation
from tests.simulation.violation import Invariant as I


@mutation(I.NO_END_WHILE_IT_ACTS, I.ALLOWED)
def a_run_that_has_begun_is_canceled(patch: Patch) -> None:
    shipped = cancel._cancel  # pyright: ignore[reportPrivateUsage]

    def as_if_preparing(ports: Ports, run: Run, by: str, note: str) -> Run:
        seen = replace(run, state=RunState.PREPARING) if run.state is RunState.RUNNING else run
        return shipped(ports, seen, by, note)

    patch.setattr(cancel, "_cancel", as_if_preparing)


def alone(ports: Ports, run: Run, after: Run) -> None:
    """The run is all that is written."""
    ports.store.commit(Replace(after))


def untold(ports: Ports, run: Run) -> Run:
    """Nobody hears of it."""
    return run


@mutation(I.TICKET_IF_READY)
def a_canceled_run_keeps_its_ticket(patch: Patch) -> None:
    patch.setattr(cancel, "_end_waiting", alone)


@mutation(I.ONE_HOLDER)
def a_cancel_says_nothing_to_the_worker(patch: Patch) -> None:
    patch.setattr(cancel, "_take_back", alone)


@mutation(I.NO_END_WHILE_IT_ACTS, I.ONE_HOLDER, I.FINAL)
def a_stop_ends_the_run_at_once(patch: Patch) -> None:
    shipped = stop._decide  # pyright: ignore[reportPrivateUsage]

    def at_once(ports: Ports, *arguments: Any, **named: Any) -> Run:
        decided = shipped(ports, *arguments, **named)
        over = ended_as_decided(decided, ports.clock(), "user", "")
        ports.store.commit(Replace(over))
        return over

    patch.setattr(stop, "_decide", at_once)


@mutation(I.REPLIED)
def what_is_owed_to_a_requester_is_forgotten(patch: Patch) -> None:
    for module in (due, finish, cancel):
        patch.setattr(module, "tell_end", untold)


@mutation(I.REPLIED)
def only_the_first_try_to_tell_an_end_counts(patch: Patch) -> None:
    patch.setattr(due, "tell_end", untold)
