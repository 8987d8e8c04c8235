"""The phases of an attempt: in their order, each on a `go`, with what is run at the end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from quaymaster.domain.messages import Assign, Outcome, Packed, PhaseOrder
from quaymaster.domain.states import Reason
from quaymaster_worker.errors import PackingFailed, UploadRefused
from quaymaster_worker.executor import Ended, Order
from quaymaster_worker.log.phase_log import PhaseLog
from quaymaster_worker.phase import leg
from quaymaster_worker.phase.leg import Leg
from quaymaster_worker.phase.orders import Orders
from quaymaster_worker.phase.phase import Phase
from quaymaster_worker.phase.timeouts import Limits
from quaymaster_worker.processes.process_executor import ProcessExecutor
from quaymaster_worker.workspace.folders import WorkFolder

from tests.unit.worker.test_phase import FakeExecution
from tests.unit.worker.test_protocol import assignment

PACKED = Packed(sha256="a" * 64, bytes=7)
SECONDS = Limits(log=60, run=60, warning=60)


@dataclass
class Bench:
    """A leg whose commands end as `ends` says (0 unless named), on their first word; `ran` is what was run."""

    ends: dict[str, int] = field(default_factory=dict[str, int])
    ran: list[str] = field(default_factory=list[str])
    seen: dict[str, Any] = field(default_factory=dict[str, Any])
    said: list[str] = field(default_factory=list[str])
    entered: list[str] = field(default_factory=list[str])
    asked: int = 0
    answers: bool = True
    leave: Callable[[], Awaitable[Packed]] | None = None
    leg: Leg | None = None

    def output(self, data: bytes) -> None:
        """Nothing writes anything."""

    def say(self, text: str) -> None:
        self.said.append(text)

    def enter(self, phase: str) -> None:
        self.entered.append(phase)

    async def start(self, order: Order) -> FakeExecution:
        name = order.command[0]
        self.ran.append(name)
        self.seen[name] = order.environment
        execution = FakeExecution(polite=True)
        if name != "hangs":
            execution.end(Ended(exit_code=self.ends.get(name, 0)))
        return execution

    async def _next_starter(self) -> Any:
        return self

    def _ask(self) -> None:
        self.asked += 1
        if self.answers and self.leg:
            self.leg.go_on(SECONDS)

    async def run(self, *phases: PhaseOrder, on_end: list[list[str]] | None = None, **fields: Any) -> Outcome:
        assign = assignment().model_copy(update={"phases": list(phases), "on_end": on_end or [], **fields})
        self.leg = self.made(assign)
        return await self.leg.run()

    def made(self, assign: Assign) -> Leg:
        folder, executor = WorkFolder(Path("/work")), ProcessExecutor({"PATH": "/bin", "LANG": "C"})
        orders = Orders(assign, {"PACKED": "1"}, folder, None, None, executor, image=None, task_role={})
        return Leg(
            orders,
            cast("PhaseLog", self),
            SECONDS,
            make_phase=lambda limits: Phase(
                self._next_starter,
                self,
                limits,
                clock=asyncio.get_running_loop().time,
                grace_seconds=lambda: 0.1,
                oom_kills=lambda: 0,
            ),
            ask=self._ask,
            leave=self.leave,
            grace_seconds=lambda: 0.1,
        )


def phase(name: str, **fields: Any) -> PhaseOrder:
    return PhaseOrder(name=name, command=[name], log_timeout_seconds=60, run_timeout_seconds=60, **fields)


def run(bench: Bench, *phases: PhaseOrder, **fields: Any) -> Outcome:
    return asyncio.run(asyncio.wait_for(bench.run(*phases, **fields), 30))


def test_one_command_asks_for_nothing() -> None:
    bench = Bench()
    assert run(bench, command=["true"]) == Outcome(end="FINISHED", exit_code=0)
    assert (bench.ran, bench.asked, bench.said, bench.entered) == (["true"], 0, [], [])


def test_phases_run_in_order_each_asked_for_with_an_environment_of_its_own() -> None:
    bench = Bench()
    phases = [phase("plan", environment={"A": "plan"}), phase("apply", read_only=True)]
    assert run(bench, *phases, environment={"A": "run", "B": "run"}).end == "FINISHED"
    assert (bench.ran, bench.asked, bench.entered) == (["plan", "apply"], 1, ["apply"])
    assert bench.said == ["phase plan begins", "phase apply begins"]
    plan, apply = bench.seen["plan"], bench.seen["apply"]
    assert (plan["A"], plan["B"], plan["PACKED"], plan["QUAYMASTER_PHASE"]) == ("plan", "run", "1", "plan")
    assert (apply["A"], apply["QUAYMASTER_PHASE"], apply["QUAYMASTER_READ_ONLY"]) == ("run", "apply", "true")
    assert "QUAYMASTER_READ_ONLY" not in plan


def test_a_phase_that_fails_is_the_last() -> None:
    bench = Bench(ends={"plan": 3})
    outcome = run(bench, phase("plan"), phase("apply"))
    assert (outcome.end, outcome.reason, outcome.exit_code) == ("FAILED", Reason.EXIT_CODE, 3)
    assert (bench.ran, bench.asked) == (["plan"], 0)


def test_hooks_run_around_the_command() -> None:
    bench = Bench()
    run(bench, phase("plan", before=[["init"], ["validate"]], after=[["show"]]))
    assert bench.ran == ["init", "validate", "plan", "show"]


@pytest.mark.parametrize(("fails", "ran"), [("init", ["init"]), ("show", ["init", "plan", "show"])])
def test_a_hook_that_fails_ends_the_run_by_its_name(fails: str, ran: list[str]) -> None:
    bench = Bench(ends={fails: 2})
    outcome = run(bench, phase("plan", before=[["init"]], after=[["show"]]), phase("apply"))
    assert (outcome.end, outcome.reason, outcome.exit_code) == ("FAILED", Reason.HOOK_FAILED, 2)
    assert outcome.note == f"the hook {fails}: exit code 2"
    assert bench.ran == ran


def test_hooks_after_a_command_that_failed_are_not_run() -> None:
    bench = Bench(ends={"plan": 1})
    assert run(bench, phase("plan", after=[["show"]])).reason is Reason.EXIT_CODE
    assert bench.ran == ["plan"]


@pytest.mark.parametrize(("ends", "state", "reason"), [({}, "FINISHED", ""), ({"plan": 3}, "FAILED", "exit_code")])
def test_what_is_to_be_run_at_the_end_is_and_sees_how_it_went(ends: dict[str, int], state: str, reason: str) -> None:
    bench = Bench(ends={**ends, "notify": 9})
    outcome = run(bench, phase("plan"), on_end=[["notify"], ["never"]])
    assert outcome.end == state
    assert bench.ran == ["plan", "notify"]
    seen = bench.seen["notify"]
    assert (seen["QUAYMASTER_STATE"], seen["QUAYMASTER_REASON"], seen["QUAYMASTER_PHASE"]) == (state, reason, "on_end")
    assert "on_end failed: exit code 9" in bench.said


def test_what_others_must_confirm_is_left_and_the_end_has_not_come() -> None:
    async def leave() -> Packed:
        return PACKED

    bench = Bench(leave=leave)
    assert run(bench, phase("plan"), on_end=[["notify"]]).workspace == PACKED
    assert bench.ran == ["plan"]


@pytest.mark.parametrize("error", [PackingFailed("it is too large"), UploadRefused("the store answered 400")])
def test_what_cannot_be_left_fails_the_run(error: Exception) -> None:
    async def leave() -> Packed:
        raise error

    bench = Bench(leave=leave)
    outcome = run(bench, phase("plan"), on_end=[["notify"]])
    assert (outcome.end, outcome.reason) == ("FAILED", Reason.WORKSPACE)
    assert outcome.note == f"the workspace could not be left: {error}"
    assert bench.ran == ["plan", "notify"]


def test_a_phase_that_failed_leaves_nothing() -> None:
    async def leave() -> Packed:
        raise AssertionError("nothing is to be left")

    assert run(Bench(ends={"plan": 1}, leave=leave), phase("plan")).reason is Reason.EXIT_CODE


def ended_while(bench: Bench, *phases: PhaseOrder, reason: Reason, when: Callable[[], bool], **fields: Any) -> Outcome:
    async def scenario() -> Outcome:
        running = asyncio.create_task(bench.run(*phases, **fields))
        while not when():
            await asyncio.sleep(0.01)
        assert bench.leg
        bench.leg.end(reason, "told to", 0.05)
        return await running

    return asyncio.run(asyncio.wait_for(scenario(), 30))


def test_ended_as_it_waits_for_go_the_next_phase_never_begins() -> None:
    bench = Bench(answers=False)
    outcome = ended_while(
        bench, phase("plan"), phase("apply"), reason=Reason.BY_USER, when=lambda: bench.asked == 1, on_end=[["tidy"]]
    )
    assert (outcome.end, outcome.reason, outcome.note) == ("STOPPED", Reason.BY_USER, "told to")
    assert bench.ran == ["plan", "tidy"]


def test_as_long_as_nobody_answers_the_log_says_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leg, "STILL", 0.02)
    bench = Bench(answers=False)
    waits = "the next phase waits for its go: the control plane has not answered yet"
    phases = [phase("plan"), phase("apply")]
    ended_while(bench, *phases, reason=Reason.KILLED, when=lambda: bench.said.count(waits) >= 2)
    assert bench.ran == ["plan"]


def test_ended_as_its_workspace_is_left_it_waits_for_nobody() -> None:
    leaving = asyncio.Event()

    async def leave() -> Packed:
        leaving.set()
        await asyncio.sleep(60)
        return PACKED

    bench = Bench(leave=leave)
    outcome = ended_while(bench, phase("plan"), reason=Reason.RUN_TIMEOUT, when=leaving.is_set)
    assert (outcome.end, outcome.reason, outcome.workspace) == ("FAILED", Reason.RUN_TIMEOUT, None)


def test_a_command_that_is_ended_is_followed_by_what_is_run_at_the_end_within_the_grace() -> None:
    bench = Bench()
    outcome = ended_while(
        bench, phase("hangs"), reason=Reason.BY_USER, when=lambda: bench.ran == ["hangs"], on_end=[["tidy"], ["hangs"]]
    )
    assert outcome.end == "STOPPED"
    assert bench.ran == ["hangs", "tidy", "hangs"]
    assert any(line.startswith("on_end failed: still running after") for line in bench.said)


def test_without_a_lease_nothing_more_is_run() -> None:
    bench = Bench()
    ended_while(
        bench, phase("hangs"), reason=Reason.WORKER_LOST, when=lambda: bench.ran == ["hangs"], on_end=[["tidy"]]
    )
    assert bench.ran == ["hangs"]
