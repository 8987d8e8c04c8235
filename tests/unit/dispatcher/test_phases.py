"""Runs of several phases: each begins only on the table's word, and some only once somebody has confirmed them."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from quaymaster.dispatcher.steering.cancel import cancel_run
from quaymaster.dispatcher.steering.confirm import confirm_run, discard_run
from quaymaster.dispatcher.steering.extend import extend_run
from quaymaster.dispatcher.steering.stop import stop_run
from quaymaster.dispatcher.users.runs import find_run
from quaymaster.dispatcher.users.views import view_run
from quaymaster.domain import objects
from quaymaster.domain.api import ConfirmRun, PhaseView
from quaymaster.domain.messages import Assign, Go, Outcome, PhaseFinished, Prepared, Refused, Stop
from quaymaster.domain.run import Run, phase_times
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import WorkerState
from quaymaster.errors import Conflict

from tests.shared.memory.agents import FakeAgent, joined, settle_down
from tests.shared.memory.invariants import check
from tests.shared.memory.world import HERE, World

PLAN = {"name": "plan", "command": ["plan"], "retryable": True, "run_timeout": "10m"}
CHECK = {"name": "check", "command": ["check"], "retryable": True}
APPLY = {"name": "apply", "command": ["apply"], "needs_confirmation": True, "log_timeout": "3m"}


def world_with(*phases: dict[str, Any], workers: int = 1, **fields: Any) -> tuple[World, list[FakeAgent]]:
    """A world whose first worker runs the first phase of `r1`."""
    world = World()
    agents = joined(world, *(f"w{number}" for number in range(1, workers + 1)))
    assert world.request({"schema": 1, "id": "r1", "pool": world.pool.name, "phases": list(phases), **fields}) == []
    settle_down(world, *agents)
    agents.sort(key=lambda one: one.held is None)
    return world, agents


def views(world: World) -> list[PhaseView]:
    run = world.run("r1")
    return view_run(world.ports, find_run(world.ports.store, run.id), HERE).phases


def states(world: World) -> list[str]:
    return [phase.state for phase in views(world)]


def finish(world: World, one: FakeAgent, *others: FakeAgent, outcome: Outcome | None = None) -> None:
    one.finish(outcome) if outcome else one.finish()
    settle_down(world, one, *others)


def go_on(world: World, one: FakeAgent) -> None:
    one.go_on()
    settle_down(world, one)


def unconfirmed(workers: int = 1, **fields: Any) -> tuple[World, list[FakeAgent]]:
    """A run whose plan waits for confirmation."""
    world, agents = world_with(PLAN, APPLY, workers=workers, **fields)
    world.wait(30)
    finish(world, *agents)
    assert world.run("r1").state is RunState.UNCONFIRMED
    return world, agents


def confirm(world: World, **fields: Any) -> Run:
    return confirm_run(world.ports, world.run("r1").id, "ann", ConfirmRun(**fields))


def assigned(one: FakeAgent) -> Assign:
    return [message for message in one.heard if isinstance(message, Assign)][-1]


def test_phases_run_one_after_the_other_each_on_a_go_with_its_own_timeouts():
    world, [one] = world_with(PLAN, CHECK, APPLY | {"needs_confirmation": False})
    assign = assigned(one)
    assert [phase.name for phase in assign.phases] == ["plan", "check", "apply"]
    assert not assign.pack
    assert world.run("r1").run_timeout == timedelta(minutes=10)
    for number in (1, 2):
        world.wait(60)
        go_on(world, one)
        run = world.run("r1")
        assert (run.phase, run.begun_at, one.held and one.held.phase) == (number, world.now, number)
    assert world.run("r1").log_timeout == timedelta(minutes=3)
    assert [message.phase for message in one.heard if isinstance(message, Go)] == [0, 1, 2]
    assert states(world) == ["FINISHED", "FINISHED", "RUNNING"]
    world.wait(5)
    finish(world, one)
    run = world.run("r1")
    assert (run.state, run.exit_code) == (RunState.FINISHED, 0)
    assert [round((times.ended_at - times.begun_at).total_seconds()) for times in phase_times(run)] == [60, 60, 5]
    assert states(world) == ["FINISHED"] * 3
    shown = view_run(world.ports, find_run(world.ports.store, run.id), HERE)
    assert shown.begun_at
    assert run.ended_at
    assert (run.ended_at - shown.begun_at).total_seconds() == 125
    check(world)


def test_a_question_for_the_next_phase_that_comes_twice_begins_it_once():
    world, [one] = world_with(PLAN, CHECK, APPLY | {"needs_confirmation": False})
    go_on(world, one)
    before = world.run("r1")
    world.wait(10)
    world.hear(one.worker_id, "prepared", Prepared(session=one.session, run=before.id, attempt=1, phase=1))
    world.hear(one.worker_id, "prepared", Prepared(session=one.session, run=before.id, attempt=1, phase=0))
    settle_down(world, one)
    assert world.run("r1") == before


@pytest.mark.parametrize("phase", [2, 7])
def test_no_phase_is_left_out(phase: int):
    world, [one] = world_with(PLAN, CHECK, CHECK | {"name": "third"})
    run = world.run("r1")
    world.hear(one.worker_id, "prepared", Prepared(session=one.session, run=run.id, attempt=1, phase=phase))
    assert world.run("r1").phase == 0


def test_a_phase_that_fails_ends_the_run():
    world, [one] = world_with(PLAN, CHECK)
    finish(world, one, outcome=Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=3))
    assert states(world) == ["FAILED", "PENDING"]
    assert [phase.exit_code for phase in views(world)] == [3, None]
    check(world)


def test_a_stop_between_two_phases_is_told_in_place_of_go():
    world, [one] = world_with(PLAN, CHECK)
    stop_run(world.ports, world.run("r1").id, "ann")
    world.messenger.sent.clear()
    one.go_on()
    sent = [sent.message for sent in world.messenger.sent]
    assert [type(message) for message in sent] == [Stop]
    settle_down(world, one)
    assert world.run("r1").state is RunState.STOPPED
    check(world)


def test_before_what_needs_confirmation_the_worker_is_free_and_the_run_waits_for_somebody():
    world, [one] = unconfirmed()
    run = world.run("r1")
    assert (run.worker, run.phase, run.leg, run.due_at) == (None, 1, 1, world.now + timedelta(days=7))
    assert run.left
    assert run.left.attempt == 1
    worker = world.table.worker(world.pool.id, one.worker_id)
    assert worker
    assert (worker.state, worker.runs_done) == (WorkerState.IDLE, 1)
    assert states(world) == ["FINISHED", "PENDING"]
    check(world)


def test_confirmed_it_goes_on_with_what_was_left_on_another_worker_and_keeps_its_place():
    world, agents = unconfirmed(workers=2)
    first, other = agents
    first.terminate()
    settle_down(world, *agents)
    accepted = world.run("r1").accepted_at
    world.wait(3 * 86_400)
    confirmed = confirm(world, note="looks good", metadata={"TICKET": "OPS-1"})
    assert (confirmed.state, confirmed.accepted_at) == (RunState.READY, accepted)
    assert world.ring() == []
    settle_down(world, *agents)
    assign = assigned(other)
    assert (assign.attempt, assign.first, [phase.name for phase in assign.phases]) == (2, 1, ["apply"])
    assert assign.workspace
    assert objects.left_workspace_key(world.pool.id, confirmed.id, 1) in assign.workspace.url
    assert confirmed.left
    assert assign.workspace.sha256 == confirmed.left.sha256
    assert assign.metadata == {"TICKET": "OPS-1"}
    assert other.begun == [(confirmed.id, 2)]
    world.wait(5)
    finish(world, other)
    run = world.run("r1")
    assert run.state is RunState.FINISHED
    assert [phase.attempt for phase in views(world)] == [1, 2]
    said = [change.split("|")[-1] for change in run.history]
    assert "confirm: looks good" in said
    check(world)


def test_confirmed_twice_the_answer_is_the_same_and_a_discard_comes_too_late():
    world, agents = unconfirmed()
    run = confirm(world)
    assert confirm(world) == run
    with pytest.raises(Conflict, match="found READY; a run that waits for confirmation"):
        discard_run(world.ports, run.id, "bob")
    world.ring()
    settle_down(world, *agents)
    assert confirm(world).state is RunState.RUNNING
    check(world)


def test_a_confirmation_that_comes_again_late_confirms_no_other_phase():
    world, [one] = world_with(PLAN, APPLY, APPLY | {"name": "destroy"})
    finish(world, one)
    with pytest.raises(Conflict, match="the phase that waits for confirmation, which is apply"):
        confirm(world, phase="destroy")
    confirm(world, phase="apply")
    world.ring()
    settle_down(world, one)
    finish(world, one)
    before = world.run("r1")
    assert (before.state, before.phase) == (RunState.UNCONFIRMED, 2)
    assert confirm(world, phase="apply") == before
    assert confirm(world, phase="destroy").state is RunState.READY
    world.ring()
    settle_down(world, one)
    finish(world, one)
    assert confirm(world, phase="apply").state is RunState.FINISHED
    check(world)


def test_discarded_it_is_over_and_cannot_be_confirmed():
    world, _ = unconfirmed()
    run = discard_run(world.ports, world.run("r1").id, "ann", "not today")
    assert (run.state, run.reason, run.note) == (RunState.DISCARDED, Reason.BY_USER, "not today")
    assert discard_run(world.ports, run.id, "bob").history == run.history
    with pytest.raises(Conflict, match="DISCARDED"):
        confirm(world)
    assert states(world) == ["FINISHED", "DISCARDED"]
    world.sweep(after=1)
    assert world.run("r1").due_at is None
    check(world)


def test_nobody_confirms_it_in_time():
    world, _ = unconfirmed()
    world.sweep(after=7 * 86_400 - 1)
    assert world.run("r1").state is RunState.UNCONFIRMED
    world.sweep(after=2)
    run = world.run("r1")
    assert (run.state, run.reason) == (RunState.DISCARDED, Reason.CONFIRMATION_EXPIRED)
    world.sweep(after=60)
    check(world)


@pytest.mark.parametrize(
    ("steer", "allowed"),
    [
        (cancel_run, "discard this one"),
        (stop_run, "discard this one"),
        (partial(extend_run, note="", log_timeout=None, run_timeout=timedelta(hours=1)), "has begun"),
    ],
)
def test_what_waits_for_confirmation_is_not_canceled_stopped_or_extended(steer: Callable[..., Run], allowed: str):
    world, _ = unconfirmed()
    with pytest.raises(Conflict, match=allowed):
        steer(world.ports, world.run("r1").id, "ann")


def test_a_run_that_waits_for_nothing_is_not_confirmed():
    world, _ = world_with(PLAN, CHECK)
    with pytest.raises(Conflict, match="found RUNNING; a run that waits for confirmation"):
        confirm(world)


def test_a_confirmed_run_waits_for_a_worker_from_then_on():
    world, [one] = unconfirmed()
    one.terminate()
    settle_down(world, one)
    world.wait(2 * 86_400)
    confirm(world)
    world.sweep(after=60)
    assert world.run("r1").state is RunState.READY
    world.sweep(after=86_400)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, Reason.QUEUE_EXPIRED)


def test_confirmed_without_asking_it_stays_on_its_worker():
    world, [one] = world_with(PLAN, APPLY, auto_confirm=True)
    assert not assigned(one).pack
    go_on(world, one)
    finish(world, one)
    assert (world.run("r1").state, world.run("r1").attempt) == (RunState.FINISHED, 1)


def lost(world: World, one: FakeAgent) -> None:
    """The worker is gone, and everybody knows."""
    one.leaving = True
    world.disconnect(one.worker_id)
    for _ in range(10):
        world.sweep(after=60)


def test_a_leg_whose_phases_may_be_repeated_begins_anew_with_its_first_one():
    world, [one] = world_with(PLAN, CHECK)
    go_on(world, one)
    lost(world, one)
    run = world.run("r1")
    assert (run.state, run.phase, run.phases_done) == (RunState.READY, 0, ())
    [other] = joined(world, "w2")
    assert [phase.name for phase in assigned(other).phases] == ["plan", "check"]
    check(world)


def test_what_must_not_be_repeated_is_not():
    world, [one] = world_with(PLAN, APPLY | {"needs_confirmation": False})
    go_on(world, one)
    lost(world, one)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, Reason.WORKER_LOST)
    check(world)


def test_a_confirmed_phase_that_must_not_be_repeated_is_not_and_one_that_had_not_begun_is():
    world, [one] = unconfirmed()
    one.prompt = False
    confirm(world)
    world.ring()
    settle_down(world, one)
    lost(world, one)
    assert world.run("r1").state is RunState.READY
    [other] = joined(world, "w2")
    assert assigned(other).first == 1
    lost(world, other)
    assert (world.run("r1").state, world.run("r1").attempt) == (RunState.FAILED, 3)
    check(world)


def test_a_worker_that_died_behind_its_end_marker_has_left_what_it_left():
    world, [one] = world_with(PLAN, APPLY)
    one.publish = lambda event, message: None
    one.finish()
    lost(world, one)
    run = world.run("r1")
    assert run.state is RunState.UNCONFIRMED
    assert run.left
    check(world)


def test_a_worker_that_leaves_nothing_has_failed():
    world, [one] = world_with(PLAN, APPLY)
    assert one.held
    one.held.pack = False
    finish(world, one)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, Reason.WORKSPACE)


@pytest.mark.parametrize("third", [APPLY, CHECK | {"name": "third"}])
def test_nor_may_it_leave_out_a_phase(third: dict[str, Any]):
    world, [one] = world_with(PLAN, CHECK, third)
    finish(world, one)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, Reason.START_FAILED)


def test_stopped_as_its_plan_finishes_it_waits_for_nobody():
    world, [one] = world_with(PLAN, APPLY)
    stop_run(world.ports, world.run("r1").id, "ann", "not needed")
    world.messenger.sent.clear()
    finish(world, one)
    run = world.run("r1")
    assert (run.state, run.reason, run.note) == (RunState.STOPPED, Reason.BY_USER, "not needed")
    check(world)


def test_an_older_attempts_report_changes_nothing_of_what_was_confirmed():
    world, [one] = unconfirmed()
    report = one.reports[(world.run("r1").id, 1)]
    confirm(world)
    world.ring()
    settle_down(world, one)
    before = world.run("r1")
    assert isinstance(report, PhaseFinished)
    world.hear(one.worker_id, "phase_finished", report)
    assert world.run("r1") == before
    assert not [message for message in one.heard if isinstance(message, Refused)]
