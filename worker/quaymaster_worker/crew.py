"""The workers of one agent process, and what becomes of each seat when its worker leaves."""

import asyncio
import logging
import secrets
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from quaymaster.domain.ids import topic_to, ulid, worker_id
from quaymaster.domain.messages import Remains

from quaymaster_worker import __version__
from quaymaster_worker.agent import Agent
from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.connection.mqtt import Address, MqttConnection
from quaymaster_worker.ecs import task_name
from quaymaster_worker.errors import ExitCode
from quaymaster_worker.host import Host
from quaymaster_worker.processes.marks import describe, still_alive
from quaymaster_worker.protocol.state.held import Identity
from quaymaster_worker.protocol.worker import Worker

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
TELL_SECONDS = 60.0

type Connect = Callable[[Address, Agent], MqttConnection]

log = logging.getLogger("quaymaster.crew")


@dataclass
class Crew:
    """Has one worker in each seat; a seat has one user for its phases."""

    host: Host
    connect: Connect
    users: Sequence[RunUser | None]
    agents: list[Agent] = field(default_factory=list[Agent])
    _ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, remains: Sequence[Remains]) -> int:
        """Until all have left; the exit code is the first that is not a goodbye."""
        seats = [self._occupy(seat, remains if seat == 0 else ()) for seat in range(len(self.users))]
        codes = await asyncio.gather(*seats)
        return next((code for code in codes if code != ExitCode.GOODBYE), ExitCode.GOODBYE)

    def terminate(self, number: signal.Signals) -> None:
        """SIGTERM or SIGINT came (again)."""
        log.info("asked to end", extra={"signal": number.name})
        self._ending.set()
        for agent in self.agents:
            agent.terminate()

    def break_off(self) -> None:
        """The agent itself is broken."""
        self._ending.set()
        for agent in self.agents:
            agent.break_off()

    async def _occupy(self, seat: int, remains: Sequence[Remains]) -> int:
        """Be a worker; one whose run could not be ended is followed by another once its processes are gone."""
        while True:
            agent = self._seat(seat, remains)
            code = await agent.left
            await agent.close()
            self.agents.remove(agent)
            # A task's worker has the task's name and cannot come again; the task's end ends all that is in it.
            if code != ExitCode.NOT_ENDED or self.host.settings.ecs_metadata_uri:
                return code
            if not await self._clean(agent):
                return ExitCode.GOODBYE
            remains = ()

    def _seat(self, seat: int, remains: Sequence[Remains]) -> Agent:
        settings, token = self.host.settings, self.host.settings.token
        # By the task's id the control plane knows the worker in it.
        name = task_name(settings.ecs_metadata_uri) if settings.ecs_metadata_uri and seat == 0 else fresh_name()
        identity = Identity(
            worker_id=worker_id(token.namespace, token.pool_id, name),
            session=fresh_name(),
            agent_version=__version__,
            metadata=settings.metadata,
            launch=settings.launch,
            log_timeout_seconds=_seconds(settings.launcher_log_timeout),
            run_timeout_seconds=_seconds(settings.launcher_run_timeout),
            executor=settings.executor,
        )
        stop_deadline = _seconds(settings.stop_deadline) or 0
        worker = Worker(identity, self.host.random, remains=remains, stop_deadline_seconds=stop_deadline)
        agent = Agent(worker, self.host, self.users[seat])
        self.agents.append(agent)
        address = Address(
            endpoints=token.mqtt,
            client_id=agent.worker_id,
            topics=[topic_to(token.namespace, token.pool_id, to) for to in (agent.worker_id, "all")],
            give_up_after_seconds=settings.give_up_after.total_seconds(),
        )
        agent.use(self.connect(address, agent))
        return agent

    async def _clean(self, agent: Agent) -> bool:
        """Wait until what the worker's run left is gone; False when the agent is to end before."""
        told, pause = -TELL_SECONDS, FIRST_PAUSE
        while left := still_alive(agent.not_ended):
            now = self.host.clock()
            if now - told >= TELL_SECONDS:
                log.error("no run is taken here until these end", extra={"processes": describe(left)})
                told = now
            try:
                async with asyncio.timeout(pause):
                    await self._ending.wait()
            except TimeoutError:
                pause = min(pause * 1.5, LONGEST_PAUSE)
            else:
                return False
        self.host.state.forget(agent.worker_id)
        log.info("the processes that could not be ended are gone", extra={"worker": agent.worker_id})
        return not self._ending.is_set()


def fresh_name() -> str:
    """A name that nobody has had."""
    return ulid(datetime.now(UTC), secrets.token_bytes(10))


def _seconds(span: timedelta | None) -> float | None:
    return span.total_seconds() if span else None
