"""A command begins when it may not."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from quaymaster.dispatcher import settle
from quaymaster.dispatcher.placing import announce, match, spec_object
from quaymaster.dispatcher.requests import submit
from quaymaster.dispatcher.workers import begin, finish
from quaymaster.domain import run as runs
from quaymaster.domain.messages import Go, ImageUsed
from quaymaster.domain.pool import PoolSettings
from quaymaster.domain.run import Run
from quaymaster_worker.protocol.actions import Begin
from quaymaster_worker.protocol.inbox import Inbox

from tests.shared.memory.agents import FakeAgent
from tests.simulation.defects.mutation import Patch, mutation, nothing
from tests.simulation.violation import Invariant as I


@mutation(I.GO_BY_THE_TABLE)
def go_is_said_before_it_is_written(patch: Patch) -> None:
    shipped = begin._begin  # pyright: ignore[reportPrivateUsage]

    def swapped(ports: Any, run: Run, image: ImageUsed | None) -> Run:
        announce.send_go(ports, replace_pool(ports, run), run)
        return shipped(ports, run, image)

    patch.setattr(begin, "_begin", swapped)


def replace_pool(ports: Any, run: Run) -> Any:
    """The pool of a run."""
    return ports.store.pool(run.pool_id)


@mutation(I.WRITTEN_BEFORE_TOLD)
def a_large_command_is_not_kept(patch: Patch) -> None:
    patch.setattr(spec_object, "keep", nothing)


@mutation(I.GO_BY_THE_TABLE)
def agents_begin_when_they_are_assigned(patch: Patch) -> None:
    """Without waiting for the table's word."""
    held = Inbox._hold  # pyright: ignore[reportPrivateUsage]

    def hold(self: Any, assign: Any, now: float) -> None:
        held(self, assign, now)
        session = self._session
        session.held.stage = "running"
        session.memory.begin(session.held.key)
        session.ask(Begin(assign))

    shipped = FakeAgent._assign  # pyright: ignore[reportPrivateUsage]

    def assign(self: Any, message: Any) -> None:
        shipped(self, message)
        if self.held and self.held.stage == "preparing":
            self.held.stage = "running"
            self.begun.append(self.held.key)

    patch.setattr(Inbox, "_hold", hold)
    patch.setattr(FakeAgent, "_assign", assign)


@mutation(I.BEGINS_ONCE)
def agents_forget_what_they_have_begun(patch: Patch) -> None:
    """A repeated `go` begins the command once more."""
    shipped = Inbox._go  # pyright: ignore[reportPrivateUsage]

    def go_real(self: Any, held: Any, message: Any, now: float) -> None:
        if held.stage == "running":
            self._session.ask(Begin(held.assign))
        shipped(self, held, message, now)

    told = FakeAgent._about_run  # pyright: ignore[reportPrivateUsage]

    def go(self: Any, message: Any) -> None:
        key = (message.run, message.attempt)
        if isinstance(message, Go) and self.held and self.held.key == key and self.held.stage == "running":
            self.begun.append(key)
        told(self, message)

    patch.setattr(Inbox, "_go", go_real)
    patch.setattr(FakeAgent, "_about_run", go)


@mutation(I.ONE_ATTEMPT_BEGINS)
def what_has_begun_is_offered_again(patch: Patch) -> None:
    """A run whose worker is lost goes to another, although it is not retryable."""
    shipped = settle._after_loss  # pyright: ignore[reportPrivateUsage]

    def after_loss(run: Run, settings: PoolSettings, loss: Any, now: datetime) -> Run:
        return replace(shipped(replace(run, retryable=True), settings, loss, now), retryable=run.retryable)

    patch.setattr(settle, "_after_loss", after_loss)


@mutation(I.ATTEMPT_BY_CLAIM)
def a_run_that_is_offered_again_keeps_its_attempt(patch: Patch) -> None:
    shipped = runs.claimed

    def claimed(run: Run, *arguments: Any, **named: Any) -> Run:
        return replace(shipped(run, *arguments, **named), attempt=max(1, run.attempt))

    for module in (match, submit, finish):
        patch.setattr(module, "claimed", claimed)
