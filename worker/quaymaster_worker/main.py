"""`quaymaster-agent`: one process that is one or more workers of a pool."""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from quaymaster_worker import __version__
from quaymaster_worker.agent import Agent
from quaymaster_worker.checking import check, show
from quaymaster_worker.configuration.options import OTHERS, OWN
from quaymaster_worker.configuration.settings import Settings, read_settings
from quaymaster_worker.connection.credentials import check_credentials
from quaymaster_worker.connection.crt import Crt
from quaymaster_worker.connection.mqtt import Address, MqttConnection
from quaymaster_worker.connection.tls_probe import TlsProbe
from quaymaster_worker.crew import Crew, fresh_name
from quaymaster_worker.defects import end_on_defects
from quaymaster_worker.errors import AgentError, ConfigurationRefused, ExitCode
from quaymaster_worker.host import Host
from quaymaster_worker.logs import set_up_logging
from quaymaster_worker.processes.leftovers import StateFile, remove_leftovers
from quaymaster_worker.processes.run_users import RunUsers
from quaymaster_worker.processes.warden import set_by_prctl
from quaymaster_worker.running import make_executor, read_run_policy
from quaymaster_worker.trial import try_out
from quaymaster_worker.workspace.folders import StateFolder

PR_SET_DUMPABLE = 4
MOST_WORKERS = 500

log = logging.getLogger("quaymaster.main")


def main() -> None:
    """Run the agent; exits with an ExitCode."""
    wanted = _parse(sys.argv[1:])
    set_up_logging(debug=False)
    try:
        settings = read_settings(os.environ)
        set_up_logging(debug=settings.debug)
        if wanted.check:
            _hide_credentials()
            sys.exit(show(asyncio.run(check(settings, wanted.count)), as_json=wanted.json))
        for note in settings.notes:
            log.warning(note)
        _hide_credentials()
        sys.exit(asyncio.run(serve(settings, wanted.count)))
    except ConfigurationRefused as error:
        log.error("configuration refused: %s", error, extra={"variable": error.variable})
        sys.exit(ExitCode.CONFIGURATION_REFUSED)
    except AgentError as error:
        log.error("cannot start: %s", error)
        sys.exit(ExitCode.FAILED)
    except Exception:
        log.exception("a defect of the agent")
        sys.exit(ExitCode.FAILED)


@dataclass(frozen=True)
class _Wanted:
    count: int
    check: bool
    json: bool


def _parse(arguments: Sequence[str]) -> _Wanted:
    parser = argparse.ArgumentParser(
        prog="quaymaster-agent",
        description="Works for a Quaymaster pool. Settings are environment variables; see docs/operations.md.",
        epilog="exit codes: " + ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode),
    )
    parser.add_argument("--count", type=int, default=1, metavar="N", help="how many workers this process is (1)")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    told = "try the whole configuration and every host that is needed, print it all, and end"
    parser.add_argument("--check", action="store_true", help=told)
    parser.add_argument("--json", action="store_true", help="with --check: print JSON")
    found = parser.parse_args(arguments)
    if not 1 <= found.count <= MOST_WORKERS:
        parser.error(f"--count: found {found.count}; allowed: 1 to {MOST_WORKERS}")
    if found.json and not found.check:
        parser.error("--json: it goes with --check only")
    return _Wanted(found.count, found.check, found.json)


def _hide_credentials() -> None:
    """A phase with the agent's own uid must not read its environment or memory in /proc."""
    for name in ("TOKEN", "POOL_PRIVATE_KEY"):
        for prefix in (OWN, OTHERS):
            os.environ.pop(prefix + name, None)
    if os.geteuid() != 0:
        set_by_prctl(PR_SET_DUMPABLE, 0)


async def serve(settings: Settings, count: int) -> int:
    """Be `count` workers until all have left; the exit code is the first that is not a goodbye.

    Raises ConfigurationRefused.
    """
    check_credentials(settings.token, settings.private_key)
    policy = read_run_policy(settings)
    crt, probe = Crt(settings.token, settings.private_key), TlsProbe(settings.token, settings.private_key)
    folder, name, users = StateFolder(settings.state_dir), fresh_name(), RunUsers(settings)
    try:
        folder.make()
        state = StateFile.create(folder, name)
        executor = make_executor(settings, name)
        remains = await remove_leftovers(folder, state, executor.remove_left)
        chosen = users.choose(count)
        await try_out(folder, executor, chosen[0])
        await executor.open()
    except OSError as error:
        raise ConfigurationRefused("QUAYMASTER_STATE_DIR", str(error), "a folder the agent may write to") from None
    loop, random = asyncio.get_running_loop(), Random(secrets.randbits(64))
    host = Host(
        settings=settings,
        folder=folder,
        state=state,
        executor=executor,
        clock=loop.time,
        random=random,
        policy=policy,
    )

    def connect(address: Address, agent: Agent) -> MqttConnection:
        return MqttConnection(crt, probe, address, agent, host.clock, random.uniform)

    crew = Crew(host, connect, chosen)
    end_on_defects(loop, crew.break_off)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, crew.terminate, number)
    await host.keep_ready()
    code = await crew.work(remains)
    await host.close()
    state.close()
    users.close()
    log.info("ended", extra={"exit_code": int(code)})
    return int(code)


if __name__ == "__main__":
    main()
