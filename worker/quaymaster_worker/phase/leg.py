"""The phases of an attempt, one after the other, from the first `go` to the last process of what is run at the end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from quaymaster.domain.messages import Outcome, Packed
from quaymaster.domain.states import Reason

from quaymaster_worker.errors import PackingFailed, UploadRefused
from quaymaster_worker.log.phase_log import PhaseLog
from quaymaster_worker.phase.leaving import STILL
from quaymaster_worker.phase.orders import ON_END, Orders
from quaymaster_worker.phase.phase import Phase, ended_as
from quaymaster_worker.phase.timeouts import Limits

ON_END_SECONDS = 60.0
"""What is run at the end may take so long, all of it together; as long as the pool's grace if the phase was ended."""
LEAVE_SECONDS = 900.0
"""Packing and uploading what is left for a later attempt may take so long."""

type MakePhase = Callable[[Limits], Phase]
type Leave = Callable[[], Awaitable[Packed]]


class Leg:
    """Runs once. `ask` has the control plane asked for the next phase, which begins with `go_on`.

    `leave` packs and uploads the workspace; None where nobody has to confirm what follows.
    """

    def __init__(
        self,
        orders: Orders,
        log: PhaseLog,
        limits: Limits,
        *,
        make_phase: MakePhase,
        ask: Callable[[], None],
        leave: Leave | None,
        grace_seconds: Callable[[], float],
    ) -> None:
        self._orders = orders
        self._log = log
        self._make_phase = make_phase
        self._ask = ask
        self._leave = leave
        self._grace = grace_seconds
        self._next: Phase | None = None
        self._ended: Outcome | None = None
        self._news = asyncio.Event()
        self.phase = make_phase(limits)

    @property
    def left(self) -> Sequence[int]:
        """Processes that could not be ended."""
        return self.phase.left

    async def run(self) -> Outcome:
        """Run the phases, and what is to be run at the end unless others must confirm what follows."""
        outcome = await self._run_phases()
        if outcome.end == "FINISHED" and self._leave:
            outcome = await self._leave_workspace(self._leave)
        if outcome.workspace is None and outcome.reason is not Reason.WORKER_LOST and not self.left:
            await self._run_on_end(outcome)
        return outcome

    def go_on(self, limits: Limits) -> None:
        """The next phase begins; its timeouts count from here."""
        self._next = self._make_phase(limits)
        self._news.set()

    def end(self, reason: Reason, note: str, grace_seconds: float) -> None:
        """End whatever runs, and begin nothing more; the first reason given stays."""
        self._ended = self._ended or ended_as(reason, note)
        phase = self._next or self.phase
        phase.end(reason, note, grace_seconds)
        self._news.set()

    async def _run_phases(self) -> Outcome:
        several = len(self._orders.phases) > 1
        outcome = Outcome(end="FINISHED", exit_code=0)
        for number, order in enumerate(self._orders.phases):
            if number:
                self._ask()
                if ended := await self._wait_for_go():
                    return ended
                self._log.enter(order.name)
            if several:
                self._log.say(f"phase {order.name} begins")
            outcome = await self.phase.run(*self._orders.steps(order))
            if outcome.end != "FINISHED":
                return outcome
        return self._ended or outcome

    async def _wait_for_go(self) -> Outcome | None:
        """The next phase is at hand when this returns, unless the leg ends before."""
        while not self._ended:
            self._news.clear()
            if self._next:
                self.phase, self._next = self._next, None
                return None
            try:
                async with asyncio.timeout(STILL):
                    await self._news.wait()
            except TimeoutError:
                # A sign of life, as long as the bucket takes it.
                self._log.say("the next phase waits for its go: the control plane has not answered yet")
        return self._ended

    async def _leave_workspace(self, leave: Leave) -> Outcome:
        """Its end may be decided meanwhile: then nothing is left."""
        self._log.say("leaving the workspace for what needs confirmation")
        leaving = asyncio.ensure_future(leave())
        waiting = asyncio.ensure_future(self._wait_for_end())
        try:
            await asyncio.wait([leaving, waiting], timeout=LEAVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if self._ended:
                return self._ended
            if not leaving.done():
                return self._not_left(f"it took longer than {LEAVE_SECONDS:g} s")
            packed = leaving.result()
        except (PackingFailed, UploadRefused) as error:
            return self._not_left(str(error))
        finally:
            waiting.cancel()
            leaving.cancel()
            await asyncio.gather(waiting, leaving, return_exceptions=True)
        self._log.say(f"the workspace is left: {packed.bytes} bytes, sha256 {packed.sha256}")
        return Outcome(end="FINISHED", exit_code=0, workspace=packed)

    def _not_left(self, why: str) -> Outcome:
        note = f"the workspace could not be left: {why}"
        self._log.say(note)
        return Outcome(end="FAILED", reason=Reason.WORKSPACE, exit_code=0, note=note[:200])

    async def _wait_for_end(self) -> None:
        while not self._ended:
            self._news.clear()
            await self._news.wait()

    async def _run_on_end(self, outcome: Outcome) -> None:
        steps = self._orders.on_end(outcome)
        if not steps:
            return
        seconds = min(ON_END_SECONDS, self._grace()) if self._ended else ON_END_SECONDS
        self._log.enter(ON_END)
        self.phase = self._make_phase(Limits(log=seconds, run=seconds, warning=seconds))
        found = await self.phase.run(*steps)
        if found.end != "FINISHED":
            self._log.say(f"on_end failed: {found.note or found.reason}")
