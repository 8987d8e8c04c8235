"""One logical worker between its connection, its state machine and the attempt in its hand."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from pydantic import ValidationError
from quaymaster.domain.ids import topic_from
from quaymaster.domain.messages import EVENTS, FromAgent, Renew, read_to_agent
from quaymaster.domain.states import Reason

from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.errors import ExitCode
from quaymaster_worker.host import Host
from quaymaster_worker.logs import about
from quaymaster_worker.phase.attempt_runner import AttemptRunner
from quaymaster_worker.processes.marks import Identified
from quaymaster_worker.protocol.actions import (
    Abandon,
    Action,
    AskGrants,
    Begin,
    EndPhase,
    Follow,
    GoOn,
    Leave,
    Prepare,
    Publish,
    SetTimeouts,
    TellOutput,
    UseGrants,
)
from quaymaster_worker.protocol.worker import Worker

_EVENT_NAMES = {kind: name for name, kind in EVENTS.items()}

log = logging.getLogger("quaymaster.agent")


class Connection(Protocol):
    """How messages get out."""

    def start(self) -> None: ...

    def publish(self, topic: str, payload: bytes) -> None: ...

    async def close(self) -> None: ...


class Agent:
    """One worker on this host, with its connection and the attempt in its hand."""

    def __init__(self, worker: Worker, host: Host, user: RunUser | None = None) -> None:
        self._worker = worker
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._runner = AttemptRunner(worker, host, user, self._do)
        self._connection: Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
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

    @property
    def not_ended(self) -> Sequence[Identified]:
        """Processes of its run that live on although everything was done to end them."""
        return self._runner.not_ended

    def terminate(self) -> None:
        """SIGTERM came (again)."""
        self._do(self._worker.terminate(self._host.clock()))

    async def close(self) -> None:
        """Disconnect, and drop what still runs."""
        if self._timer:
            self._timer.cancel()
        await self._runner.close()
        if self._connection:
            await self._connection.close()

    # Listener of the connection.

    def on_connected(self) -> None:
        """Connected, and subscribed."""
        log.info("connected", extra=about(self._worker))
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
            log.warning("a message cannot be read", extra=about(self._worker) | {"error": found})
            return
        log.debug("received", extra=about(self._worker) | {"kind": message.kind})
        self._do(self._worker.received(message, self._host.clock()))

    def on_rejected(self, note: str) -> None:
        """The broker refuses for good: end, unless a phase runs, which its lease decides about."""
        if self._worker.holding is None or self._worker.holding.stage != "running":
            log.error("giving up", extra=about(self._worker) | {"error": note})
            self._leave(ExitCode.REJECTED)

    def on_taken_over(self) -> None:
        """Another process has this worker's id: two would evict each other for ever."""
        log.error("another process connected with this worker's id", extra=about(self._worker))
        self._runner.tell(EndPhase(Reason.WORKER_LOST, "another process took this worker's id", 0))
        self._leave(ExitCode.TAKEN_OVER)

    def break_off(self) -> None:
        """The agent itself is broken: `close` ends its phase, and what it left is told by the next agent."""
        self._leave(ExitCode.FAILED)

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
                self._runner.prepare(assign)
            case Abandon():
                self._runner.abandon()
            case Begin():
                self._runner.begin()
            case AskGrants(run, attempt, failing):
                self._renew(run, attempt, failing=failing)
            case TellOutput(run, attempt, since, failing):
                phase = self._runner.phase
                if phase and phase.quiet_seconds < self._host.clock() - since:
                    self._renew(run, attempt, failing=failing, unseen=True)
            case Leave(exit_code):
                self._leave(exit_code)
            case GoOn() | EndPhase() | SetTimeouts() | UseGrants() | Follow():
                self._runner.tell(action)

    def _publish(self, message: FromAgent) -> None:
        event = _EVENT_NAMES[type(message)]
        token = self._host.settings.token
        topic = topic_from(token.namespace, token.pool_id, self._worker.identity.worker_id, event)
        log.debug("sending", extra=about(self._worker) | {"event": event})
        if self._connection:
            self._connection.publish(topic, message.encode())

    def _renew(self, run: str, attempt: int, *, failing: bool, unseen: bool = False) -> None:
        phase = self._runner.phase
        self._publish(
            Renew(
                session=self._worker.identity.session,
                run=run,
                attempt=attempt,
                quiet_seconds=phase.quiet_seconds if phase else 0,
                uploads="failing" if failing else "ok",
                unseen=unseen,
            )
        )

    def _leave(self, exit_code: int) -> None:
        if not self.left.done():
            self.left.set_result(exit_code)

    # Bookkeeping.

    def _settle(self) -> None:
        self._runner.forget_if_free()
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
