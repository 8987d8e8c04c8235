"""Phases begin out of order, without being confirmed, or once too often."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from quaymaster.dispatcher import settle
from quaymaster.dispatcher.reaper import due
from quaymaster.dispatcher.steering import confirm
from quaymaster.dispatcher.workers import begin
from quaymaster.domain import run as runs
from quaymaster.domain.phases import Leg, Phase, leg_of
from quaymaster.domain.run import Run
from quaymaster.ports import Ports

from tests.shared.memory.agents import FakeAgent
from tests.simulation.defects.mutation import Patch, mutation
from tests.simulation.violation import Invariant as I


@mutation(I.GO_BY_THE_TABLE)
def the_next_phase_begins_before_the_table_says_so(patch: Patch) -> None:
    def untold(ports: Ports, sender: object, run: Run) -> Run:
        return replace(run, phase=run.phase + 1)

    patch.setattr(begin, "_go_on", untold)


@mutation(I.CONFIRMED)
def what_needs_confirmation_does_not_wait(patch: Patch) -> None:
    def at_once(phases: Sequence[Phase], first: int, *, auto_confirm: bool) -> Leg:
        return leg_of(phases, first, auto_confirm=True)

    patch.setattr(runs, "leg_of", at_once)


@mutation(I.ONE_ATTEMPT_BEGINS)
def a_later_phase_may_be_repeated_because_the_first_one_may(patch: Patch) -> None:
    shipped = runs.next_phase

    def repeatable(run: Run, *arguments: Any, retryable: bool) -> Run:
        return shipped(run, *arguments, retryable=True)

    patch.setattr(begin, "next_phase", repeatable)


@mutation(I.TICKET_IF_READY)
def a_confirmed_run_has_no_ticket(patch: Patch) -> None:
    shipped = confirm._change  # pyright: ignore[reportPrivateUsage]

    def without(ports: Ports, run_id: str, change: Any, done: Any, what: str) -> Run:
        return shipped(ports, run_id, lambda run, now: (change(run, now)[0], ()), done, what)

    patch.setattr(confirm, "_change", without)


@mutation(I.ALL_ENDS, I.IN_TIME)
def what_nobody_confirms_waits_for_ever(patch: Patch) -> None:
    def stays(run: Run, now: datetime) -> Run:
        return run

    patch.setattr(due, "expired_unconfirmed", stays)


@mutation(I.ALL_ENDS, I.IN_TIME)
def an_unconfirmed_run_has_no_deadline(patch: Patch) -> None:
    shipped = runs.unconfirmed

    def without(*arguments: Any) -> Run:
        return replace(shipped(*arguments), confirm_by=None, due_at=None)

    patch.setattr(settle, "unconfirmed", without)


@mutation(I.GO_BY_THE_TABLE)
def agents_begin_the_next_phase_without_asking(patch: Patch) -> None:
    def at_once(agent: FakeAgent) -> None:
        if agent.held:
            agent.held.phase += 1

    patch.setattr(FakeAgent, "go_on", at_once)
