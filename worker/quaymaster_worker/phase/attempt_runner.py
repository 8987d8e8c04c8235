"""The attempt in a worker's hand, from its assignment to its removal: the tasks behind it, and what came of each."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence

from quaymaster.domain.messages import Assign, LogDigest, Outcome
from quaymaster.domain.states import Reason

from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.connection.uploads import PresignedStore
from quaymaster_worker.defects import watched
from quaymaster_worker.errors import AgentError, PreparationFailed
from quaymaster_worker.host import Host
from quaymaster_worker.logs import about
from quaymaster_worker.phase.attempt import Attempt
from quaymaster_worker.phase.phase import Phase
from quaymaster_worker.processes.marks import Identified, identify
from quaymaster_worker.protocol.actions import Action, EndPhase, Follow, GoOn, SetTimeouts, UseGrants
from quaymaster_worker.protocol.worker import Worker

LOG_PATIENCE = 120.0
"""Seconds that the final log may take to get to the store before the phase's end is reported without it."""
LEAVING_LOG_PATIENCE = 10.0

log = logging.getLogger("quaymaster.agent")


class AttemptRunner:
    """Prepares, runs and removes attempts, one at a time; tells the state machine, and has `do` its answers."""

    def __init__(self, worker: Worker, host: Host, user: RunUser | None, do: Callable[[list[Action]], None]) -> None:
        self._worker = worker
        self._host = host
        self._user = user
        self._do = do
        self._loop = asyncio.get_running_loop()
        self._store = PresignedStore(lambda: host.http, host.clock, worker.stored)
        self._attempt: Attempt | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._removals: set[asyncio.Task[None]] = set()
        self._in_state_file = False
        self.not_ended: Sequence[Identified] = ()

    @property
    def phase(self) -> Phase | None:
        """The phase that the attempt in hand is at, once it has begun."""
        return self._attempt.leg.phase if self._attempt and self._attempt.leg else None

    def prepare(self, assign: Assign) -> None:
        """Make everything ready; the state machine is told `prepared` or `preparation_failed`."""
        worker = self._worker
        log.info("assigned", extra={"worker": worker.identity.worker_id, "run": assign.run, "attempt": assign.attempt})
        attempt = Attempt(assign, worker.identity, self._host, self._user, self._store, lambda: worker.pool)
        self._attempt = attempt
        self._preparing = self._start(self._prepare(attempt))

    def abandon(self) -> None:
        """Drop what was prepared, or is being prepared."""
        attempt, self._attempt = self._attempt, None
        preparing, self._preparing = self._preparing, None
        if attempt:
            self._remove(attempt, preparing)

    def begin(self) -> None:
        """Run the phase; the state machine is told `phase_ended`, and `report` once the log is shipped."""
        attempt = self._attempt
        if attempt is None:
            raise AgentError("go for an attempt that was never prepared")
        log.info("the phase begins", extra=about(self._worker))
        self._watch_uploads(attempt)
        failure = None
        try:
            # Here and not in the task: a `kill` may come before the task first runs.
            attempt.begin()
        except OSError as error:
            failure = Outcome(end="FAILED", reason=Reason.START_FAILED, note=f"the worker's disk: {error}"[:200])
        self._start(self._run(attempt, failure))

    def tell(self, action: GoOn | EndPhase | SetTimeouts | UseGrants | Follow) -> None:
        """Pass an action on to the attempt in hand."""
        attempt = self._attempt
        if attempt is None:
            return
        match action:
            case GoOn(log_seconds, run_seconds):
                log.info("the next phase begins", extra=about(self._worker))
                attempt.go_on(log_seconds, run_seconds)
            case EndPhase(reason, note, grace):
                log.info("ending the phase", extra=about(self._worker) | {"reason": reason, "note": note})
                if attempt.leg:
                    attempt.leg.end(reason, note, grace)
            case SetTimeouts(log_seconds, run_seconds, note):
                attempt.extend(log_seconds, run_seconds, note)
            case UseGrants(grants):
                attempt.use(grants)
            case Follow(seconds):
                if attempt.log:
                    attempt.log.watch(seconds)

    def forget_if_free(self) -> None:
        """Keep the state file in step: an attempt stays in it until its end is in the table."""
        if self._in_state_file and self._worker.holding is None:
            self._in_state_file = False
            self._host.state.forget(self._worker.identity.worker_id)

    async def close(self) -> None:
        """Drop what still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._attempt:
            self._remove(self._attempt)
        await asyncio.gather(*self._removals)

    async def _prepare(self, attempt: Attempt) -> None:
        self._in_state_file = True
        try:
            await attempt.prepare()
        except PreparationFailed as error:
            log.warning("cannot prepare", extra=about(self._worker) | {"error": error.note})
            outcome = Outcome(end="FAILED", reason=error.reason, note=error.note[:200])
            digest = await attempt.finish(outcome, LEAVING_LOG_PATIENCE)
            now = self._host.clock()
            self._do(self._worker.preparation_failed(attempt.key, error.reason, error.note, now, digest))
        except Exception as error:
            # A run must not wait for its deadline because of what a workspace brings that nobody foresaw.
            log.exception("the agent failed to prepare", extra=about(self._worker))
            note = f"the agent failed: {type(error).__name__}"
            self._do(self._worker.preparation_failed(attempt.key, Reason.WORKSPACE, note, self._host.clock()))
        else:
            self._do(self._worker.prepared(attempt.key, self._host.clock(), attempt.image))
            # While the control plane is asked.
            await attempt.hold()

    async def _run(self, attempt: Attempt, failure: Outcome | None) -> None:
        outcome = failure or await self._outcome_of(attempt)
        log.info("the phase has ended", extra=about(self._worker) | outcome.model_dump(exclude_none=True))
        if attempt.leg and attempt.leg.left:
            self._set_aside(attempt.leg.left)
        self._do(self._worker.phase_ended(attempt.key, self._host.clock()))
        digest = await self._ship(attempt, outcome)
        self._do(self._worker.report(attempt.key, outcome, digest, self._host.clock()))
        if self._attempt is attempt:
            self._attempt = None
        self._remove(attempt)

    def _set_aside(self, pids: Sequence[int]) -> None:
        """The worker takes no more runs; the state file goes on to name what lives, for this agent or the next."""
        worker_id = self._worker.identity.worker_id
        self.not_ended = [found for found in map(identify, pids) if found]
        self._host.state.name_processes(worker_id, pids)
        self._in_state_file = False
        self._do(self._worker.set_aside(self._host.clock()))

    async def _outcome_of(self, attempt: Attempt) -> Outcome:
        try:
            return await attempt.run()
        except Exception as error:
            # Whatever is wrong here, the run must be reported, or it would stand as RUNNING until its timeout.
            log.exception("the agent failed to run the phase", extra=about(self._worker))
            note = f"the agent failed: {type(error).__name__}"
            return Outcome(end="FAILED", reason=Reason.INTERRUPTED, note=note)

    async def _ship(self, attempt: Attempt, outcome: Outcome) -> LogDigest:
        patience = LEAVING_LOG_PATIENCE if self._worker.is_leaving else LOG_PATIENCE
        try:
            await attempt.leave_outputs(LEAVING_LOG_PATIENCE)
            return await attempt.finish(outcome, patience)
        except OSError:
            log.exception("the agent failed to ship the log", extra=about(self._worker))
            return LogDigest(complete=False)

    def _watch_uploads(self, attempt: Attempt) -> None:
        def refused() -> None:
            self._do(self._worker.grants_refused(attempt.key, self._host.clock()))

        def failing(since: float | None) -> None:
            self._do(self._worker.uploads_failing(attempt.key, since, self._host.clock()))

        def phase_done() -> None:
            self._do(self._worker.phase_done(attempt.key, self._host.clock()))

        attempt.on_refused, attempt.on_failing, attempt.on_phase_done = refused, failing, phase_done

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = watched(self._loop.create_task(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _remove(self, attempt: Attempt, preparing: asyncio.Task[None] | None = None) -> None:
        task = self._loop.create_task(self._remove_after(preparing, attempt))
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)

    async def _remove_after(self, preparing: asyncio.Task[None] | None, attempt: Attempt) -> None:
        if preparing:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
        await attempt.remove()
        await self._host.keep_ready()
