"""A phase's life on a fake execution: why it ends, and what is said about it."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from quaymaster.domain.messages import Outcome
from quaymaster.domain.states import Reason
from quaymaster_worker.errors import StartFailed
from quaymaster_worker.executor import Ended, Execution, Order
from quaymaster_worker.metering.usage import Advice, Reading, Used
from quaymaster_worker.phase import phase as phase_module
from quaymaster_worker.phase.phase import Phase, Step
from quaymaster_worker.phase.timeouts import Limits
from quaymaster_worker.processes.memory_events import count_oom_kills

ORDER = Order(command=["x"], environment={}, folder=Path("/"))


@dataclass
class FakeExecution:
    """Ends when it is told how; obeys SIGTERM only if it is polite."""

    polite: bool = False
    wishes: list[str] = field(default_factory=list[str])
    pids: Sequence[int] = (1, 2)
    readings: list[Reading] = field(default_factory=list[Reading])

    def __post_init__(self) -> None:
        self._end: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._output: asyncio.Queue[bytes] = asyncio.Queue()

    def write(self, data: bytes) -> None:
        self._output.put_nowait(data)

    def end(self, ended: Ended) -> None:
        if not self._end.done():
            self._end.set_result(ended)
            self._output.put_nowait(b"")

    async def read(self) -> bytes:
        return await self._output.get()

    async def wait(self) -> Ended:
        return await self._end

    async def reading(self) -> Reading | None:
        return self.readings.pop(0) if self.readings else None

    def stop(self) -> None:
        self.wishes.append("stop")
        if self.polite:
            self.end(Ended(exit_code=0))

    def kill(self) -> None:
        self.wishes.append("kill")
        self.end(Ended(signal=9))


@dataclass
class FakeStarter:
    execution: FakeExecution | None

    async def hold(self, order: Order) -> None:
        """Nothing can be done ahead here."""

    async def start(self, order: Order) -> Execution:
        if self.execution is None:
            raise StartFailed(127, f"cannot start {order.command[0]!r}")
        return self.execution

    async def close(self) -> None:
        return


@dataclass
class Notes:
    said: list[str] = field(default_factory=list[str])
    written: bytes = b""

    def output(self, data: bytes) -> None:
        self.written += data

    def say(self, text: str) -> None:
        self.said.append(text)


def phase_of(
    execution: FakeExecution | None,
    notes: Notes,
    limits: Limits | None = None,
    kills: Iterator[int] | None = None,
    **more: Any,
) -> Phase:
    counts = kills or iter([0, 0])
    starter = FakeStarter(execution)

    async def next_starter() -> FakeStarter:
        return starter

    return Phase(
        next_starter,
        notes,
        limits or Limits(log=60, run=60, warning=1),
        clock=asyncio.get_running_loop().time,
        grace_seconds=lambda: 0.2,
        oom_kills=lambda: next(counts),
        **more,
    )


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


@pytest.mark.parametrize(
    ("ended", "kills", "outcome"),
    [
        (Ended(exit_code=0), [0, 0], Outcome(end="FINISHED", exit_code=0)),
        (
            Ended(exit_code=4),
            [0, 0],
            Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=4, note="exit code 4"),
        ),
        (
            Ended(signal=11),
            [0, 0],
            Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=139, note="ended by SIGSEGV"),
        ),
        (
            Ended(signal=9),
            [3, 4],
            Outcome(end="FAILED", reason=Reason.OUT_OF_MEMORY, exit_code=137, note="killed because memory ran out"),
        ),
        (
            Ended(signal=9),
            [3, 3],
            Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=137, note="ended by SIGKILL"),
        ),
        (
            Ended(),
            [3, 3],
            Outcome(end="FAILED", reason=Reason.KILLED, note="something on the worker's host ended the phase"),
        ),
    ],
)
def test_how_the_command_ended_decides_the_outcome(ended: Ended, kills: list[int], outcome: Outcome) -> None:
    async def scenario() -> None:
        execution, notes = FakeExecution(), Notes()
        execution.write(b"last words")
        execution.end(ended)
        assert await phase_of(execution, notes, kills=iter(kills)).run(Step(ORDER)) == outcome
        assert notes.written == b"last words"

    run(scenario)


def test_a_command_that_cannot_start_is_a_failure_with_a_shells_code() -> None:
    async def scenario() -> None:
        notes = Notes()
        outcome = await phase_of(None, notes).run(Step(ORDER))
        assert (outcome.end, outcome.reason, outcome.exit_code) == ("FAILED", Reason.START_FAILED, 127)
        assert notes.said == ["cannot start 'x'"]

    run(scenario)


def test_a_timeout_warns_asks_and_then_kills() -> None:
    async def scenario() -> None:
        execution, notes = FakeExecution(), Notes()
        phase = phase_of(execution, notes, Limits(log=2.5, run=60, warning=2))
        outcome = await phase.run(Step(ORDER))
        assert (outcome.reason, execution.wishes) == (Reason.LOG_TIMEOUT, ["stop", "kill"])
        assert [("ends this phase in" in text) for text in notes.said] == [True, False]

    run(scenario)


def test_a_polite_command_is_not_killed_and_its_exit_code_does_not_hide_the_reason() -> None:
    async def scenario() -> None:
        execution, notes = FakeExecution(polite=True), Notes()
        outcome = await phase_of(execution, notes, Limits(log=0.2, run=60, warning=60)).run(Step(ORDER))
        assert (outcome.end, outcome.reason, outcome.exit_code) == ("FAILED", Reason.LOG_TIMEOUT, 0)
        assert execution.wishes == ["stop"]

    run(scenario)


def test_a_kill_shortens_a_stop_and_the_first_reason_stays() -> None:
    async def scenario() -> None:
        execution, notes = FakeExecution(), Notes()
        phase = phase_of(execution, notes)
        running = asyncio.create_task(phase.run(Step(ORDER)))
        await asyncio.sleep(0.01)
        phase.end(Reason.BY_USER, "stopped", 100)
        while execution.wishes != ["stop"]:
            await asyncio.sleep(0.01)
        phase.end(Reason.RUN_TIMEOUT, "too long", 0)
        outcome = await running
        assert (outcome.end, outcome.reason) == ("STOPPED", Reason.BY_USER)
        assert execution.wishes == ["stop", "kill"]

    run(scenario)


def test_an_end_that_comes_before_the_command_is_there_is_not_lost() -> None:
    async def scenario() -> None:
        execution, notes = FakeExecution(), Notes()
        phase = phase_of(execution, notes)
        phase.end(Reason.KILLED, "at once", 0)
        assert (await phase.run(Step(ORDER))).reason is Reason.KILLED

    run(scenario)


@pytest.mark.parametrize(
    ("cgroup", "file", "content", "expected"),
    [
        ("0::/\n", "memory.events", "low 0\noom 2\noom_kill 3\n", 3),
        ("0::/a/b\n", "a/b/memory.events", "oom_kill 1\n", 1),
        ("5:memory:/x\n1:cpu:/\n", "memory/x/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", 7),
        ("0::/\n", "other", "", None),
    ],
)
def test_oom_kills_are_counted_in_both_kinds_of_cgroup(
    tmp_path: Path, cgroup: str, file: str, content: str, expected: int | None
) -> None:
    (tmp_path / "proc").write_text(cgroup)
    (tmp_path / "root" / file).parent.mkdir(parents=True)
    (tmp_path / "root" / file).write_text(content)
    assert count_oom_kills(tmp_path / "proc", tmp_path / "root") == expected
    assert count_oom_kills(tmp_path / "nowhere", tmp_path / "root") is None


def test_the_exact_command_is_told_and_that_it_still_runs_which_sets_no_timeout_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phase_module, "STILL_RUNNING", 0.1)

    async def scenario() -> None:
        notes, execution = Notes(), FakeExecution(polite=True)
        limits = Limits(log=0.55, run=60, warning=0)
        phase = phase_of(execution, notes, limits, tells_commands=True)
        outcome = await phase.run(Step(replace(ORDER, command=["echo", "a b"])))
        assert outcome.reason is Reason.LOG_TIMEOUT
        assert notes.said[0] == "$ echo 'a b'"
        assert 3 <= notes.said.count("Still running...") <= 6

    run(scenario)


def test_a_command_that_writes_is_not_told_to_run_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase_module, "STILL_RUNNING", 0.3)

    async def scenario() -> None:
        notes, execution = Notes(), FakeExecution()
        running = asyncio.ensure_future(phase_of(execution, notes, tells_commands=True).run(Step(ORDER)))
        for _ in range(8):
            await asyncio.sleep(0.1)
            execution.write(b".")
        execution.end(Ended(exit_code=0))
        await running
        assert notes.said == ["$ x"]

    run(scenario)


def test_what_it_uses_is_read_while_it_runs_and_explains_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase_module, "FIRST_READING", 0.01)
    monkeypatch.setattr(phase_module, "READINGS", 0.01)

    async def scenario() -> None:
        used = Used(Advice(cpus="CPUS", memory="MEMORY"), 8)
        reading = Reading(cpu_seconds=1, memory_bytes=60 << 20, memory_limit_bytes=64 << 20)
        notes, execution = Notes(), FakeExecution(readings=[reading])
        running = asyncio.ensure_future(phase_of(execution, notes, used=used).run(Step(ORDER)))
        while execution.readings:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        execution.end(Ended(exit_code=137, out_of_memory=True))
        outcome = await running
        assert outcome.reason is Reason.OUT_OF_MEMORY
        assert outcome.note == "killed because memory ran out: 64 MiB were not enough; try 128 MiB (MEMORY)"
        assert notes.said == [outcome.note]
        assert used.usage
        assert used.usage.memory_peak_bytes == 60 << 20

    run(scenario)


def test_a_command_that_never_came_to_run_is_told_as_such() -> None:
    async def scenario() -> None:
        notes, execution = Notes(), FakeExecution()
        execution.end(Ended(exit_code=127, not_started="cannot start 'none'"))
        outcome = await phase_of(execution, notes).run(Step(ORDER))
        assert (outcome.reason, outcome.exit_code, outcome.note) == (Reason.START_FAILED, 127, "cannot start 'none'")
        assert notes.said == ["cannot start 'none'"]

    run(scenario)


def test_what_could_not_be_ended_is_told_in_the_log_and_in_the_outcome() -> None:
    async def scenario() -> None:
        execution, notes = FakeExecution(), Notes()
        phase = phase_of(execution, notes)
        execution.end(Ended(signal=9, left=[os.getpid()]))
        outcome = await phase.run(Step(ORDER))
        told = f"not ended, in spite of SIGKILL: {os.getpid()} ({psutil.Process().name()})"
        assert notes.said == [told]
        assert outcome.note
        assert outcome.note.endswith(told)
        assert phase.left == [os.getpid()]

    asyncio.run(scenario())
