"""One phase: a command, with its hooks, that runs under two timeouts until it ends or is ended."""

import asyncio
import logging
import shlex
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from quaymaster.domain.messages import Outcome
from quaymaster.domain.states import Reason

from quaymaster_worker.errors import StartFailed
from quaymaster_worker.executor import Ended, Execution, Order, Starter
from quaymaster_worker.metering.usage import Used
from quaymaster_worker.phase.timeouts import Expired, Limits, Timeouts, Warning
from quaymaster_worker.processes.marks import describe

DRAIN_PATIENCE = 5.0
"""Seconds for the last output to be read once nothing is left that could write more."""

STILL_RUNNING = 60.0
FIRST_READING, READINGS = 0.5, 5.0
"""Seconds to the first look at what a command uses, and between two."""
LONGEST_HOOK = 100
_OWN_FAULT = frozenset({Reason.EXIT_CODE, Reason.START_FAILED})
"""Ends of a hook that are nobody's doing but its own."""

log = logging.getLogger("quaymaster.phase")


def ended_as(reason: Reason, note: str, exit_code: int | None = None) -> Outcome:
    """How an attempt ends that is ended for this reason."""
    end = "STOPPED" if reason is Reason.BY_USER else "FAILED"
    return Outcome(end=end, reason=reason, exit_code=exit_code, note=note[:200])


class Scribe(Protocol):
    """Takes the phase's output and the agent's own lines."""

    def output(self, data: bytes) -> None: ...

    def say(self, text: str) -> None: ...


@dataclass(frozen=True)
class Step:
    """A command of the phase: its own, or a hook."""

    order: Order
    hook: bool = False


@dataclass(frozen=True)
class _Ending:
    """Why the phase is being ended."""

    reason: Reason
    note: str


class Phase:
    """Runs once. `clock` is monotonic; both timeouts count from the construction, that is from `go`."""

    def __init__(
        self,
        next_starter: Callable[[], Awaitable[Starter]],
        scribe: Scribe,
        limits: Limits,
        *,
        clock: Callable[[], float],
        grace_seconds: Callable[[], float],
        oom_kills: Callable[[], int | None],
        on_started: Callable[[Execution], None] = lambda execution: None,
        tells_commands: bool = False,
        used: Used | None = None,
    ) -> None:
        self._next_starter = next_starter
        self._scribe = scribe
        self._clock = clock
        self._grace = grace_seconds
        self._oom_kills = oom_kills
        self._on_started = on_started
        self._tells_commands = tells_commands
        self._used = used
        self._timeouts = Timeouts(limits, clock())
        self._execution: Execution | None = None
        self._ending: _Ending | None = None
        self._kill_at: float | None = None
        self._changed = asyncio.Event()
        self.left: Sequence[int] = ()
        """Processes that could not be ended."""

    async def run(self, *steps: Step) -> Outcome:
        """Run the commands, one after the other, until one fails or is ended; how the last of them ended.

        When this returns, nothing that they started is left but what `left` names.
        """
        outcome = Outcome(end="FINISHED", exit_code=0)
        for step in steps:
            outcome = self._ended_between() or await self._run_step(step.order)
            if step.hook and outcome.reason in _OWN_FAULT:
                note = f"the hook {shlex.join(step.order.command)[:LONGEST_HOOK]}: {outcome.note}"
                self._scribe.say(note)
                outcome = outcome.model_copy(update={"reason": Reason.HOOK_FAILED, "note": note[:200]})
            if outcome.end != "FINISHED":
                break
        return outcome

    async def _run_step(self, order: Order) -> Outcome:
        kills_before = self._oom_kills()
        self._execution = None
        if self._tells_commands:
            self._scribe.say(f"$ {shlex.join(order.command)}")
        try:
            starter = await self._next_starter()
            self._execution = await starter.start(order)
        except StartFailed as error:
            self._scribe.say(error.note)
            return Outcome(end="FAILED", reason=Reason.START_FAILED, exit_code=error.exit_code, note=error.note[:200])
        except OSError as error:
            note = f"the worker's disk: {error}"[:200]
            self._scribe.say(note)
            return Outcome(end="FAILED", reason=Reason.START_FAILED, note=note)
        self._on_started(self._execution)
        if self._ending:
            self._execution.kill()
        reading = asyncio.create_task(self._read(self._execution))
        telling = [asyncio.create_task(self._tell_that_it_runs())] if self._tells_commands else []
        metering = [asyncio.create_task(self._meter(self._execution, self._used))] if self._used else []
        keeping = [asyncio.create_task(self._keep_time(self._execution)), *telling, *metering]
        try:
            ended = await self._execution.wait()
        except BaseException:
            self._execution.kill()
            raise
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
        self._execution = None
        await asyncio.wait([reading], timeout=DRAIN_PATIENCE)
        reading.cancel()
        outcome = self._judge(ended, kills_before)
        return self._tell_left(outcome, ended.left) if ended.left else outcome

    def end(self, reason: Reason, note: str, grace_seconds: float) -> None:
        """End the phase for this reason; the first reason given stays, a shorter grace shortens the end."""
        if self._ending is None:
            self._ending = _Ending(reason, note)
            self._scribe.say(f"ending the phase: {note}")
            if self._execution and grace_seconds > 0:
                self._execution.stop()
        kill_at = self._clock() + grace_seconds
        self._kill_at = min(self._kill_at or kill_at, kill_at)
        self._changed.set()

    def extend(self, limits: Limits) -> None:
        """New timeouts, counted from the same moments."""
        self._timeouts.extend(limits)
        self._changed.set()

    @property
    def quiet_seconds(self) -> float:
        """How long the phase has written nothing."""
        return self._timeouts.quiet_for(self._clock())

    async def _read(self, execution: Execution) -> None:
        while data := await execution.read():
            self._timeouts.saw_output(self._clock())
            self._scribe.output(data)

    async def _keep_time(self, execution: Execution) -> None:
        while True:
            self._changed.clear()
            at = self._kill_at if self._ending else self._timeouts.next_at()
            try:
                async with asyncio.timeout(None if at is None else max(0.0, at - self._clock())):
                    await self._changed.wait()
            except TimeoutError:
                self._act(execution)

    async def _meter(self, execution: Execution, used: Used) -> None:
        """Read now and then what the command uses; say so where that holds it up."""
        used.begin(self._clock())
        pause = FIRST_READING
        while True:
            await asyncio.sleep(pause)
            pause = READINGS
            reading = await execution.reading()
            if reading and (line := used.see(reading, self._clock())):
                self._scribe.say(line)

    async def _tell_that_it_runs(self) -> None:
        """A line for each silent minute; the agent's own lines are no output, and set no timeout back."""
        told = self._clock()
        while True:
            now = self._clock()
            due = max(told, now - self.quiet_seconds) + STILL_RUNNING
            if now >= due:
                told = now
                self._scribe.say("Still running...")
            else:
                await asyncio.sleep(due - now)

    def _act(self, execution: Execution) -> None:
        if self._ending:
            if self._kill_at is not None and self._clock() >= self._kill_at:
                self._kill_at = None
                execution.kill()
            return
        match self._timeouts.check(self._clock()):
            case Warning(text):
                self._scribe.say(text)
            case Expired(reason, note):
                self.end(reason, note, self._grace())
            case None:
                return

    def _tell_left(self, outcome: Outcome, left: Sequence[int]) -> Outcome:
        self.left = left
        told = f"not ended, in spite of SIGKILL: {describe(left)}"
        self._scribe.say(told)
        return outcome.model_copy(update={"note": "; ".join(filter(None, [outcome.note, told]))[:200]})

    def _ended_between(self) -> Outcome | None:
        """How the phase ends if that was decided while none of its commands ran."""
        return ended_as(self._ending.reason, self._ending.note) if self._ending else None

    def _judge(self, ended: Ended, kills_before: int | None) -> Outcome:
        code = ended.exit_code if ended.signal is None else 128 + ended.signal
        if self._ending:
            return ended_as(self._ending.reason, self._ending.note, code)
        if ended.not_started:
            self._scribe.say(ended.not_started)
            note = ended.not_started[:200]
            return Outcome(end="FAILED", reason=Reason.START_FAILED, exit_code=code, note=note)
        if ended.exit_code == 0:
            return Outcome(end="FINISHED", exit_code=0)
        if ended.out_of_memory or ((code is None or ended.signal == signal.SIGKILL) and self._saw_kills(kills_before)):
            note = self._used.out_of_memory() if self._used else "killed because memory ran out"
            self._scribe.say(note)
            return Outcome(end="FAILED", reason=Reason.OUT_OF_MEMORY, exit_code=code, note=note)
        if code is None:
            return Outcome(end="FAILED", reason=Reason.KILLED, note="something on the worker's host ended the phase")
        note = f"ended by {signal.Signals(ended.signal).name}" if ended.signal else f"exit code {code}"
        return Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=code, note=note)

    def _saw_kills(self, before: int | None) -> bool:
        """Whether the kernel has killed something of this host's for lack of memory since then."""
        kills = self._oom_kills()
        return kills is not None and before is not None and kills > before
