"""Runs each command of a phase in a container of its own, of the phase's image."""

import asyncio
import logging
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from quaymaster.domain.messages import Assign, ImageUsed

from quaymaster_worker.configuration.docker_options import DockerOptions
from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.containers.engine import Engine, Output, in_daemon_thread
from quaymaster_worker.containers.images import Images, choose_image
from quaymaster_worker.containers.keeper import Keeper
from quaymaster_worker.containers.left_containers import labels_of, remove_of_run, remove_strays
from quaymaster_worker.containers.stats import read_stats
from quaymaster_worker.errors import ConfigurationRefused, EngineRefused, EngineUnreachable, StartFailed
from quaymaster_worker.executor import Ended, Order, Places
from quaymaster_worker.metering.usage import Advice, Reading
from quaymaster_worker.processes.marks import mark_of, marked
from quaymaster_worker.workspace.folders import StateFolder, WorkFolder

INSIDE = "/mnt/quaymaster"
"""Where the folders of an attempt are in each of its containers: the same for all, so that plans can name paths."""
NOT_FOUND, NOT_EXECUTABLE = 127, 126
ENGINE_PAUSE = 2.0
TELL_EVERY = 30
_NOT_BEGUN = re.compile(rb"\[FATAL tini \(\d+\)\] exec (.+) failed: (.+)")
"""What the engine's init says of a command that it cannot start."""
_TAIL = 512

log = logging.getLogger("quaymaster.containers")


class ContainerExecution:
    """A command in its container, which goes away with it."""

    pids: Sequence[int] = ()
    """None to look for: the containers of a crashed agent are found by their labels."""

    def __init__(self, engine: Engine, container: str, output: Output, order: Order, cpus: float | None) -> None:
        self._engine = engine
        self._container = container
        self._output = output
        self._order = order
        self._cpus = cpus
        self._tail = b""
        self._wishes: set[asyncio.Task[None]] = set()

    async def read(self) -> bytes:
        """The next bytes of its output; empty at the end."""
        data = await self._output.read()
        self._tail = (self._tail + data)[-_TAIL:]
        return data

    async def wait(self) -> Ended:
        """Its end; the container is removed."""
        code = await self._exit_code()
        state = await self._ask(lambda: self._engine.state(self._container))
        await self._ask(lambda: self._engine.remove(self._container))
        ended = Ended(exit_code=code, out_of_memory=bool(state and state.get("OOMKilled")) and code != 0)
        if code in (NOT_FOUND, NOT_EXECUTABLE) and (found := _NOT_BEGUN.search(self._tail)):
            word, why = (part.decode(errors="replace") for part in found.groups())
            return Ended(exit_code=code, not_started=f"cannot start {word!r}: {why}"[:200])
        return ended

    async def reading(self) -> Reading | None:
        """By the engine, which reads the container's cgroup; None once that is gone."""
        try:
            return read_stats(await self._engine.stats(self._container), self._cpus)
        except (EngineRefused, EngineUnreachable):
            return None

    def stop(self) -> None:
        """SIGTERM to all that runs in the container, as far as this host lets the agent see it."""
        self._wish(self._terminate)

    def kill(self) -> None:
        """SIGKILL to its first process, which takes all others along."""
        self._wish(lambda: self._ask(lambda: self._engine.signal(self._container, "SIGKILL")))

    async def _terminate(self) -> None:
        processes = await asyncio.to_thread(marked, mark_of(self._order.environment))
        reached = [process for process in processes if not _is_first(process.pid)]
        if not reached:
            await self._ask(lambda: self._engine.signal(self._container, "SIGTERM"))
        for process in reached:
            # The engine's init is left out: it would pass the signal on, and a second one hastens many programs.
            with suppress(psutil.Error):
                process.terminate()

    async def _exit_code(self) -> int | None:
        """None if nobody knows: the engine has lost it."""
        return await self._ask(lambda: self._engine.wait(self._container))

    async def _ask[T](self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Ask until the engine answers: while nobody knows whether the container runs, nobody may say that it ended.

        None where the engine does not know the container.
        """
        tries = 0
        while True:
            try:
                return await work()
            except EngineRefused as error:
                if error.status in (404, 409):
                    return None
                note = error.words
            except EngineUnreachable as error:
                note = str(error)
            if tries % TELL_EVERY == 0:
                log.error("the engine does not answer about a container", extra={"error": note})
            tries += 1
            await asyncio.sleep(ENGINE_PAUSE)

    def _wish(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = asyncio.get_running_loop().create_task(work())
        self._wishes.add(task)
        task.add_done_callback(self._wishes.discard)


class ContainerStarter:
    """Makes a container, and starts it once its time has come."""

    def __init__(self, executor: "DockerExecutor") -> None:
        self._executor = executor
        self._container: str | None = None
        self._making = asyncio.Lock()

    async def hold(self, order: Order) -> None:
        """Have the container made. Raises StartFailed."""
        async with self._making:
            if self._container is None:
                self._container = await self._made(order)

    async def start(self, order: Order) -> ContainerExecution:
        """Start it. Raises StartFailed."""
        await self.hold(order)
        container, self._container = self._container or "", None
        engine = self._executor.engine
        try:
            output = await engine.attach(container)
            await engine.start(container)
        except (EngineRefused, EngineUnreachable) as error:
            with suppress(EngineRefused, EngineUnreachable):
                await engine.remove(container)
            raise _start_failed(error) from None
        return ContainerExecution(engine, container, output, order, self._executor.cpus)

    async def close(self) -> None:
        """Remove what was made, if it was not started."""
        async with self._making:
            container, self._container = self._container, None
        if container:
            try:
                await self._executor.engine.remove(container)
            except (EngineRefused, EngineUnreachable) as error:
                log.warning("a container that was not used stays", extra={"error": str(error)})

    async def _made(self, order: Order) -> str:
        try:
            return await self._executor.engine.create(**self._executor.container(order))
        except (EngineRefused, EngineUnreachable) as error:
            raise _start_failed(error) from None


class DockerExecutor:
    """Commands in containers: no capabilities, no new privileges, limits, and of the host what its settings mount.

    The engine's socket is never among it.
    """

    def __init__(self, options: DockerOptions, folder: Path, agent: str, clock: Callable[[], float]) -> None:
        self.engine = Engine(options.config_dir)
        self.cpus = options.cpus
        self._options = options
        self._folder = folder
        self._agent = agent
        self._images = Images(self.engine, options.pull, clock)
        self._keeper: Keeper | None = None

    @property
    def advice(self) -> Advice:
        """The options of this host."""
        return Advice(cpus="QUAYMASTER_WORKER_CPUS", memory="QUAYMASTER_WORKER_MEMORY")

    def places(self, folder: WorkFolder) -> Places:
        """Where a command in a container finds its folders."""
        inside = Path(INSIDE)
        names = (folder.workspace, folder.home, folder.temporary, folder.outputs)
        workspace, home, temporary, outputs = (str(inside / path.relative_to(folder.phase)) for path in names)
        return Places(workspace=workspace, home=home, temporary=temporary, outputs=outputs)

    @property
    def outside(self) -> tuple[str, ...]:
        """Where the host's own files and folders are mounted."""
        kinds = (self._options.mounts_of(read_only=read_only) for read_only in (True, False))
        return tuple({mount.target for mounts in kinds for mount in mounts})

    def passed(self, *, read_only: bool) -> Mapping[str, str]:
        """What a phase sees of the agent's environment. Its PATH is the image's."""
        return self._options.environment(read_only=read_only)

    async def open(self) -> None:
        """Remove what nobody looks after any more, and have somebody who removes this agent's, should it die."""
        await in_daemon_thread(lambda: remove_strays(self.engine, self._folder, StateFolder(self._folder).agents))
        if self._keeper is None:
            self._keeper = Keeper(self._folder, self._agent)

    async def bring(self, assign: Assign, say: Callable[[str], None]) -> ImageUsed | None:
        """The run's image, which is here when this returns. Raises PreparationFailed."""
        image = choose_image(assign, self._options)
        await self._images.bring(image.name, say, assign.prepare_timeout_seconds)
        return image

    async def try_out(self, work: WorkFolder, user: RunUser | None) -> None:
        """Ask the engine for all that containers will need. Raises ConfigurationRefused."""
        try:
            info, networks = await self.engine.info(), await self.engine.networks()
        except (EngineRefused, EngineUnreachable) as error:
            where = self._options.engine or "/var/run/docker.sock"
            raise ConfigurationRefused(
                "DOCKER_HOST", f"{where} ({error})", "where a container engine answers"
            ) from None
        options = self._options
        if options.network not in networks and not options.network.startswith("container:"):
            named = ", ".join(sorted(name for name in networks if len(name) < 64))
            raise ConfigurationRefused("QUAYMASTER_WORKER_NETWORK", repr(options.network), f"one of {named}")
        runtimes: Mapping[str, Any] = info.get("Runtimes") or {}
        if options.runtime and options.runtime not in runtimes:
            raise ConfigurationRefused(
                "QUAYMASTER_WORKER_RUNTIME", repr(options.runtime), f"one of {', '.join(sorted(runtimes))}"
            )

    async def remove_left(self, run: str, attempt: int) -> bool:
        """Remove the containers of a dead agent's attempt; whether they are gone."""
        return await in_daemon_thread(lambda: remove_of_run(self.engine, self._folder, run, attempt))

    async def make_ready(self) -> ContainerStarter:
        """Nothing is done ahead."""
        return ContainerStarter(self)

    async def keep_ready(self) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Let the keeper remove what is left, and end."""
        keeper, self._keeper = self._keeper, None
        if keeper:
            await asyncio.to_thread(keeper.close)
        self.engine.close()

    def container(self, order: Order) -> dict[str, Any]:
        """What the engine is told about the container of an order."""
        options, mark = self._options, mark_of(order.environment)
        binds = [f"{order.folder.parent}:{INSIDE}:rw"]
        binds += [
            f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}"
            for mount in options.mounts_of(read_only=order.read_only)
        ]
        host: dict[str, Any] = {
            "binds": binds,
            "network_mode": options.network,
            "runtime": options.runtime,
            "mem_limit": options.memory,
            # Without swap: what does not fit is told as such, and not as slowness.
            "memswap_limit": options.memory,
            "nano_cpus": round(options.cpus * 1e9) if options.cpus else None,
            "pids_limit": options.pids,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "read_only": options.read_only_root,
            "tmpfs": {"/tmp": "mode=1777"} if options.read_only_root else None,
            "init": True,
            # Its output comes here and nowhere else: an engine's own log would fill the host's disk.
            "log_config": {"Type": "none", "Config": {}},
        }
        uid, gid = (order.user.uid, order.user.gid) if order.user else (os.geteuid(), os.getegid())
        return {
            "image": order.image,
            # The image's own entry point and command mean nothing here.
            "entrypoint": list(order.command[:1]),
            "command": list(order.command[1:]),
            "user": f"{uid}:{gid}",
            "working_dir": f"{INSIDE}/{order.folder.name}",
            "environment": dict(order.environment),
            "labels": labels_of(self._folder, self._agent, mark.run, str(mark.attempt)),
            "name": f"quaymaster-{_plain(mark.run)}-{mark.attempt}-{secrets.token_hex(4)}",
            "host": host,
        }


def _is_first(pid: int) -> bool:
    """Whether a process is the first one of its container."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                numbers = line.split()[1:]
                return len(numbers) > 1 and numbers[-1] == "1"
    return False


def _start_failed(error: EngineRefused | EngineUnreachable) -> StartFailed:
    return StartFailed(NOT_EXECUTABLE, f"the container engine: {error}"[:200])


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:64]
