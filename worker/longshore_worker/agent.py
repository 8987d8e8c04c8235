"""One logical worker: carries out what the state machine asks for, and tells it what came of it."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Protocol

from longshore.domain.ids import topic_from
from longshore.domain.messages import EVENTS, FromAgent, LogDigest, Outcome, Renew, read_to_agent
from longshore.domain.states import Reason
from pydantic import ValidationError

from longshore_worker.actions import (
    Abandon,
    Action,
    AskGrants,
    Begin,
    EndPhase,
    Follow,
    Leave,
    Prepare,
    Publish,
    SetTimeouts,
    UseGrants,
)
from longshore_worker.attempt import Attempt
from longshore_worker.errors import AgentError, ExitCode, PreparationFailed
from longshore_worker.host import Host
from longshore_worker.uploads import PresignedStore
from longshore_worker.worker import Worker

LOG_PATIENCE = 120.0
"""Seconds that the final log may take to get to the store before the phase's end is reported without it."""
LEAVING_LOG_PATIENCE = 10.0

_EVENT_NAMES = {kind: name for name, kind in EVENTS.items()}

log = logging.getLogger("longshore.agent")


class Connection(Protocol):
    """How messages get out."""

    def start(self) -> None: ...

    def publish(self, topic: str, payload: bytes) -> None: ...

    async def close(self) -> None: ...


class Agent:
    """One worker on this host, with its connection and the attempt in its hand."""

    def __init__(self, worker: Worker, host: Host) -> None:
        self._worker = worker
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._store = PresignedStore(lambda: host.http, lambda: worker.store_answered(host.clock()))
        self._connection: Connection | None = None
        self._attempt: Attempt | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._removals: set[asyncio.Task[None]] = set()
        self._preparing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held = False
        self._owes_remains = worker.remains_unreported
        self.left: asyncio.Future[int] = self._loop.create_future()

    def use(self, connection: Connection) -> None:
        """Speak over this connection, and begin."""
        self._connection = connection
        connection.start()

    @property
    def worker_id(self) -> str:
        """The worker's id, which is its MQTT client id."""
        return self._worker.identity.worker_id

    def terminate(self) -> None:
        """SIGTERM came (again)."""
        self._do(self._worker.terminate(self._host.clock()))

    async def close(self) -> None:
        """Disconnect, and drop what still runs."""
        if self._timer:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._attempt:
            self._remove(self._attempt)
        await asyncio.gather(*self._removals)
        if self._connection:
            await self._connection.close()

    # Listener of the connection.

    def on_connected(self) -> None:
        """Connected, and subscribed."""
        log.info("connected", extra=self._extra())
        self._do(self._worker.connected(self._host.clock()))

    def on_disconnected(self, unreachable_seconds: float) -> None:
        """The connection is down."""
        now = self._host.clock()
        self._do(self._worker.disconnected(now, now - unreachable_seconds))

    def on_message(self, payload: bytes) -> None:
        """A message came."""
        try:
            message = read_to_agent(payload)
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False)
            log.warning("a message cannot be read", extra=self._extra() | {"error": found})
            return
        log.debug("received", extra=self._extra() | {"kind": message.kind})
        self._do(self._worker.received(message, self._host.clock()))

    def on_rejected(self, note: str) -> None:
        """The broker refuses for good: end, unless a phase runs, which its lease decides about."""
        if self._worker.holding is None or self._worker.holding.stage != "running":
            log.error("giving up", extra=self._extra() | {"error": note})
            self._leave(ExitCode.REJECTED)

    def on_taken_over(self) -> None:
        """Another process has this worker's id: two would evict each other for ever."""
        log.error("another process connected with this worker's id", extra=self._extra())
        if self._attempt and self._attempt.phase:
            self._attempt.phase.end(Reason.WORKER_LOST, "another process took this worker's id", 0)
        self._leave(ExitCode.TAKEN_OVER)

    # Actions.

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            self._carry_out(action)
        self._settle()
        self._set_timer()

    def _carry_out(self, action: Action) -> None:
        match action:
            case Publish(message):
                self._publish(message)
            case Prepare(assign):
                about = {"run": assign.run, "attempt": assign.attempt}
                log.info("assigned", extra={"worker": self._worker.identity.worker_id, **about})
                self._prepare(action)
            case Abandon():
                self._abandon()
            case Begin():
                self._begin()
            case AskGrants():
                self._ask_grants(action)
            case Leave(exit_code):
                self._leave(exit_code)
            case EndPhase() | SetTimeouts() | UseGrants() | Follow():
                self._tell_attempt(action)

    def _tell_attempt(self, action: EndPhase | SetTimeouts | UseGrants | Follow) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        match action:
            case EndPhase(reason, note, grace):
                log.info("ending the phase", extra=self._extra() | {"reason": reason, "note": note})
                if attempt.phase:
                    attempt.phase.end(reason, note, grace)
            case SetTimeouts(log_seconds, run_seconds):
                attempt.extend(log_seconds, run_seconds)
            case UseGrants(grants):
                attempt.use(grants)
            case Follow(seconds):
                if attempt.log:
                    attempt.log.watch(seconds)

    def _publish(self, message: FromAgent) -> None:
        event = _EVENT_NAMES[type(message)]
        token = self._host.settings.token
        topic = topic_from(token.namespace, token.pool_id, self._worker.identity.worker_id, event)
        log.debug("sending", extra=self._extra() | {"event": event})
        if self._connection:
            self._connection.publish(topic, message.encode())

    def _prepare(self, action: Prepare) -> None:
        worker = self._worker
        attempt = Attempt(action.assign, worker.identity.worker_id, self._host, self._store, lambda: worker.pool)
        self._attempt = attempt
        self._preparing = self._start(self._prepare_attempt(attempt))

    async def _prepare_attempt(self, attempt: Attempt) -> None:
        self._held = True
        try:
            await attempt.prepare()
        except PreparationFailed as error:
            log.warning("cannot prepare", extra=self._extra() | {"error": error.note})
            now = self._host.clock()
            self._do(self._worker.preparation_failed(attempt.key, error.reason, error.note, now))
        else:
            self._do(self._worker.prepared(attempt.key, self._host.clock()))

    def _abandon(self) -> None:
        attempt, self._attempt = self._attempt, None
        preparing, self._preparing = self._preparing, None
        if attempt:
            self._remove(attempt, preparing)

    def _begin(self) -> None:
        attempt = self._attempt
        if attempt is None:
            raise AgentError("go for an attempt that was never prepared")
        log.info("the phase begins", extra=self._extra())
        self._watch_uploads(attempt)
        failure = None
        try:
            # Here and not in the task: a `kill` may come before the task first runs.
            attempt.begin()
        except OSError as error:
            failure = Outcome(end="FAILED", reason=Reason.START_FAILED, note=f"the worker's disk: {error}"[:200])
        self._start(self._run(attempt, failure))

    async def _run(self, attempt: Attempt, failure: Outcome | None) -> None:
        outcome = failure or await self._outcome_of(attempt)
        log.info("the phase has ended", extra=self._extra() | outcome.model_dump(exclude_none=True))
        self._do(self._worker.phase_ended(attempt.key, self._host.clock()))
        digest = await self._ship(attempt, outcome)
        self._do(self._worker.report(attempt.key, outcome, digest, self._host.clock()))
        if self._attempt is attempt:
            self._attempt = None
        self._remove(attempt)

    async def _outcome_of(self, attempt: Attempt) -> Outcome:
        try:
            return await attempt.run()
        except Exception as error:
            # Whatever is wrong here, the run must be reported, or it would stand as RUNNING until its timeout.
            log.exception("the agent failed to run the phase", extra=self._extra())
            note = f"the agent failed: {type(error).__name__}"
            return Outcome(end="FAILED", reason=Reason.INTERRUPTED, note=note)

    async def _ship(self, attempt: Attempt, outcome: Outcome) -> LogDigest:
        patience = LEAVING_LOG_PATIENCE if self._worker.is_leaving else LOG_PATIENCE
        try:
            return await attempt.finish(outcome, patience)
        except OSError:
            log.exception("the agent failed to ship the log", extra=self._extra())
            return LogDigest(complete=False)

    def _watch_uploads(self, attempt: Attempt) -> None:
        def refused() -> None:
            self._do(self._worker.grants_refused(attempt.key, self._host.clock()))

        def failing(since: float | None) -> None:
            self._do(self._worker.uploads_failing(attempt.key, since, self._host.clock()))

        attempt.on_refused, attempt.on_failing = refused, failing

    def _ask_grants(self, action: AskGrants) -> None:
        phase = self._attempt.phase if self._attempt else None
        self._publish(
            Renew(
                session=self._worker.identity.session,
                run=action.run,
                attempt=action.attempt,
                quiet_seconds=phase.quiet_seconds if phase else 0,
                uploads="failing" if action.failing else "ok",
            )
        )

    def _leave(self, exit_code: int) -> None:
        if not self.left.done():
            self.left.set_result(exit_code)

    # Bookkeeping.

    def _settle(self) -> None:
        """Keep the state file in step: an attempt stays in it until its end is in the table."""
        if self._held and self._worker.holding is None:
            self._held = False
            self._host.state.forget(self._worker.identity.worker_id)
        if self._owes_remains and not self._worker.remains_unreported:
            self._owes_remains = False
            self._host.state.reported()

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        at = self._worker.next_tick()
        self._timer = None if at is None else self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._do(self._worker.tick(self._host.clock()))

    def _remove(self, attempt: Attempt, preparing: asyncio.Task[None] | None = None) -> None:
        task = self._loop.create_task(_remove_after(preparing, attempt))
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _extra(self) -> dict[str, object]:
        holding = self._worker.holding
        return {
            "worker": self._worker.identity.worker_id,
            "run": holding.run if holding else None,
            "attempt": holding.attempt if holding else None,
        }


async def _remove_after(preparing: asyncio.Task[None] | None, attempt: Attempt) -> None:
    if preparing:
        preparing.cancel()
        await asyncio.gather(preparing, return_exceptions=True)
    await attempt.remove()
