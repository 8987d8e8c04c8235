"""`longshore-agent`: one process that is one or more workers of a pool."""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from longshore.domain.ids import topic_to, ulid, worker_id
from longshore.domain.messages import Remains

from longshore_worker import __version__
from longshore_worker.agent import Agent
from longshore_worker.connection import Address, MqttConnection
from longshore_worker.credentials import check_credentials
from longshore_worker.crt import Crt
from longshore_worker.defects import end_on_defects
from longshore_worker.ecs import task_name
from longshore_worker.errors import AgentError, ConfigurationRefused, ExitCode
from longshore_worker.folders import StateFolder
from longshore_worker.held import Identity
from longshore_worker.host import Host
from longshore_worker.leftovers import StateFile, remove_leftovers
from longshore_worker.logs import set_up_logging
from longshore_worker.process_executor import ProcessExecutor
from longshore_worker.settings import Settings, read_settings
from longshore_worker.tls_probe import TlsProbe
from longshore_worker.warden import set_by_prctl
from longshore_worker.worker import Worker

PR_SET_DUMPABLE = 4
MOST_WORKERS = 500

log = logging.getLogger("longshore.main")


def main() -> None:
    """Run the agent; exits with an ExitCode."""
    count = _parse(sys.argv[1:])
    set_up_logging(debug=False)
    try:
        settings = read_settings(os.environ)
        set_up_logging(debug=settings.debug)
        _hide_credentials()
        sys.exit(asyncio.run(serve(settings, count)))
    except ConfigurationRefused as error:
        log.error("configuration refused: %s", error, extra={"variable": error.variable})
        sys.exit(ExitCode.CONFIGURATION_REFUSED)
    except AgentError as error:
        log.error("cannot start: %s", error)
        sys.exit(ExitCode.FAILED)
    except Exception:
        log.exception("a defect of the agent")
        sys.exit(ExitCode.FAILED)


def _parse(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="longshore-agent",
        description="Works for a Longshore pool. Settings are environment variables; see docs/operations.md.",
        epilog="exit codes: " + ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode),
    )
    parser.add_argument("--count", type=int, default=1, metavar="N", help="how many workers this process is (1)")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    count: int = parser.parse_args(arguments).count
    if not 1 <= count <= MOST_WORKERS:
        parser.error(f"--count: found {count}; allowed: 1 to {MOST_WORKERS}")
    return count


def _hide_credentials() -> None:
    """A phase with the agent's own uid must not read its environment or memory in /proc."""
    for name in ("LONGSHORE_TOKEN", "LONGSHORE_POOL_PRIVATE_KEY"):
        os.environ.pop(name, None)
    if os.geteuid() != 0:
        set_by_prctl(PR_SET_DUMPABLE, 0)


@dataclass(frozen=True)
class _Crew:
    """The workers of this process, and what they share."""

    agents: Sequence[Agent]
    host: Host


async def serve(settings: Settings, count: int) -> int:
    """Be `count` workers until all have left; the exit code is the first that is not a goodbye.

    Raises ConfigurationRefused.
    """
    check_credentials(settings.token, settings.private_key)
    crt, probe = Crt(settings.token, settings.private_key), TlsProbe(settings.token, settings.private_key)
    folder = StateFolder(settings.state_dir)
    try:
        folder.make()
        state = StateFile.create(folder, _fresh_name())
        remains = await remove_leftovers(folder, state)
    except OSError as error:
        raise ConfigurationRefused("LONGSHORE_STATE_DIR", str(error), "a folder the agent may write to") from None
    crew = _muster(settings, count, state, remains)
    loop = asyncio.get_running_loop()
    end_on_defects(loop, lambda: _break_off(crew))
    _connect(crew, crt, probe)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _terminate, crew, number)
    codes = await asyncio.gather(*(agent.left for agent in crew.agents))
    await asyncio.gather(*(agent.close() for agent in crew.agents))
    await crew.host.close()
    state.close()
    code = next((code for code in codes if code != ExitCode.GOODBYE), ExitCode.GOODBYE)
    log.info("ended", extra={"exit_code": int(code)})
    return int(code)


def _muster(settings: Settings, count: int, state: StateFile, remains: Sequence[Remains]) -> _Crew:
    loop = asyncio.get_running_loop()
    random = Random(secrets.randbits(64))
    host = Host(
        settings=settings,
        folder=StateFolder(settings.state_dir),
        state=state,
        executor=ProcessExecutor(),
        clock=loop.time,
        random=random,
    )
    agents = [
        Agent(_worker(settings, name, random, remains if i == 0 else ()), host)
        for i, name in enumerate(_names(settings, count))
    ]
    return _Crew(agents, host)


def _worker(settings: Settings, name: str, random: Random, remains: Sequence[Remains]) -> Worker:
    identity = Identity(
        worker_id=worker_id(settings.token.namespace, settings.token.pool_id, name),
        session=_fresh_name(),
        agent_version=__version__,
        metadata=settings.metadata,
        launch=settings.launch,
        log_timeout_seconds=_seconds(settings.launcher_log_timeout),
        run_timeout_seconds=_seconds(settings.launcher_run_timeout),
    )
    return Worker(identity, random, remains=remains, stop_deadline_seconds=_seconds(settings.stop_deadline) or 0)


def _connect(crew: _Crew, crt: Crt, probe: TlsProbe) -> None:
    settings = crew.host.settings
    token = settings.token
    for agent in crew.agents:
        me = agent.worker_id
        address = Address(
            endpoints=token.mqtt,
            client_id=me,
            topics=[topic_to(token.namespace, token.pool_id, name) for name in (me, "all")],
            give_up_after_seconds=settings.give_up_after.total_seconds(),
        )
        agent.use(MqttConnection(crt, probe, address, agent, crew.host.clock, crew.host.random.uniform))


def _break_off(crew: _Crew) -> None:
    for agent in crew.agents:
        agent.break_off()


def _terminate(crew: _Crew, number: signal.Signals) -> None:
    log.info("asked to end", extra={"signal": number.name})
    for agent in crew.agents:
        agent.terminate()


def _names(settings: Settings, count: int) -> list[str]:
    """A fresh name for each worker; in an ECS task the first is the task's id, by which the control plane knows it."""
    names = [_fresh_name() for _ in range(count)]
    if settings.ecs_metadata_uri:
        names[0] = task_name(settings.ecs_metadata_uri)
    return names


def _fresh_name() -> str:
    return ulid(datetime.now(UTC), secrets.token_bytes(10))


def _seconds(span: timedelta | None) -> float | None:
    return span.total_seconds() if span else None


if __name__ == "__main__":
    main()
