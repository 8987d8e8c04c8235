"""What phases in containers promise, by a real engine: what they are given, what they never get, and how they end."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quaymaster_worker.configuration.docker_options import DockerOptions, Mount, Sorted
from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.containers.docker_executor import INSIDE, DockerExecutor
from quaymaster_worker.containers.left_containers import remove_of_run
from quaymaster_worker.errors import ConfigurationRefused, StartFailed
from quaymaster_worker.executor import Ended, Execution, Order
from quaymaster_worker.metering import usage
from quaymaster_worker.phase import phase
from quaymaster_worker.phase.timeouts import Limits
from quaymaster_worker.workspace.folders import StateFolder

from tests.shared.deployed.engine import Engine

pytestmark = pytest.mark.docker

IMAGE = "quaymaster-base"
NOBODY = RunUser(name="nobody", uid=65534, gid=65534)
READY = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done"


class Host:
    """A host with an engine: where its agent's folders are, and what it runs."""

    def __init__(self, root: Path) -> None:
        self.executors: list[DockerExecutor] = []
        self.state = StateFolder(root)
        self.state.make()
        self.work = self.state.attempt(f"r{time.monotonic_ns()}", 1, "w")
        self.work.make()
        self.work.give_to(NOBODY)

    def executor(self, **options: Any) -> DockerExecutor:
        executor = DockerExecutor(DockerOptions(**options), self.state.root, "agent", time.monotonic)
        self.executors.append(executor)
        return executor

    def order(self, *command: str, read_only: bool = False, **environment: str) -> Order:
        marks = {"QUAYMASTER_RUN": self.work.root.name, "QUAYMASTER_ATTEMPT": "1"}
        return Order(
            command=command,
            environment=marks | environment,
            folder=self.work.workspace,
            user=NOBODY,
            image=IMAGE,
            read_only=read_only,
        )


@pytest.fixture
def host(container_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for name, value in container_engine.environment.items():
        monkeypatch.setenv(name, value)
    # Others' containers cannot enter what pytest makes.
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.owner() == NOBODY.name or not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 1)
    host = Host(tmp_path)
    yield host
    for executor in host.executors:
        run(executor.close)


def containers(engine: Engine) -> list[str]:
    return engine.docker("ps", "--all", "--quiet").stdout.split()


@asynccontextmanager
async def started(executor: DockerExecutor, what: Order) -> AsyncGenerator[Execution]:
    execution = await (await executor.make_ready()).start(what)
    try:
        yield execution
    finally:
        execution.kill()


async def read_all(execution: Execution) -> str:
    parts: list[bytes] = []
    while part := await execution.read():
        parts.append(part)
    return b"".join(parts).decode()


async def read_until(execution: Execution, text: bytes) -> None:
    seen = b""
    while text not in seen:
        part = await execution.read()
        assert part, f"the output ended with {seen!r}"
        seen += part


async def done(executor: DockerExecutor, what: Order) -> tuple[str, Ended]:
    async with started(executor, what) as execution:
        return await asyncio.gather(read_all(execution), execution.wait())


def run[T](scenario: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(120):
            return await scenario()

    return asyncio.run(bounded())


def test_a_command_runs_in_its_workspace_and_leaves_what_it_wrote_but_no_container(
    container_engine: Engine, host: Host
) -> None:
    script = "pwd; id -u; echo $GIVEN; echo kept > here; echo error >&2; exit 7"
    output, ended = run(lambda: done(host.executor(), host.order("sh", "-c", script, GIVEN="x y")))
    assert sorted(output.splitlines()) == sorted([f"{INSIDE}/workspace", "65534", "x y", "error"])
    assert ended == Ended(exit_code=7)
    assert (host.work.workspace / "here").read_text() == "kept\n"
    assert containers(container_engine) == []


def test_it_has_no_capability_can_gain_none_and_sees_nothing_of_the_engine(host: Host) -> None:
    script = (
        "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; find / -xdev -name docker.sock 2> /dev/null; "
        "env | grep -c -e TOKEN -e PRIVATE_KEY -e DOCKER; cat"
    )
    output, _ = run(lambda: done(host.executor(), host.order("sh", "-c", script)))
    assert output.split() == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1", "0"]


def test_limits_are_the_options_and_a_root_that_is_read_only_has_a_folder_to_write_to(host: Host) -> None:
    executor = host.executor(memory=64 << 20, cpus=0.5, pids=20, read_only_root=True)
    script = (
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2> /dev/null;"
        "touch /etc/x 2> /dev/null || echo closed; touch /tmp/x && echo open;"
        "for i in $(seq 40); do sleep 5 & done 2>&1 | grep -c fork"
    )
    output, _ = run(lambda: done(executor, host.order("sh", "-c", script)))
    assert output.split()[:3] == [str(64 << 20), "closed", "open"]
    assert int(output.split()[-1]) >= 1


def test_memory_that_runs_out_is_told_from_other_kills(host: Host) -> None:
    eat = host.order("python3", "-c", "x = bytearray(500 << 20)")
    _, ended = run(lambda: done(host.executor(memory=64 << 20), eat))
    assert (ended.exit_code, ended.out_of_memory) == (137, True)
    _, ended = run(lambda: done(host.executor(memory=64 << 20), host.order("sh", "-c", "kill -9 $$")))
    assert (ended.exit_code, ended.out_of_memory) == (137, False)


@pytest.mark.parametrize(
    ("command", "code"), [(["no-such-command-here"], 127), (["./none"], 127), (["/etc/passwd"], 126)]
)
def test_a_command_that_cannot_start_says_so_with_a_shells_code(host: Host, command: Sequence[str], code: int) -> None:
    _, ended = run(lambda: done(host.executor(), host.order(*command)))
    assert ended.exit_code == code
    assert ended.not_started
    assert command[0] in ended.not_started


def test_an_image_that_is_not_there_starts_nothing(container_engine: Engine, host: Host) -> None:
    async def scenario() -> None:
        with pytest.raises(StartFailed, match=r"(?i)no such image"):
            await (await host.executor().make_ready()).start(replace(host.order("true"), image="none.invalid/x:1"))

    run(scenario)
    assert containers(container_engine) == []


def test_stop_reaches_a_command_below_a_shell_once(host: Host) -> None:
    child = "import signal, sys\nsignal.signal(15, lambda *_: (print('asked', flush=True)))\n"
    child += "print('ready', flush=True)\nfor _ in range(2): signal.pause()\n"

    async def scenario() -> tuple[str, Ended]:
        (host.work.workspace / "child.py").write_text(child.replace("range(2)", "range(1)"))
        what = host.order("sh", "-c", "trap : TERM; python3 child.py; echo after")
        async with started(host.executor(), what) as execution:
            await read_until(execution, b"ready")
            execution.stop()
            return await asyncio.gather(read_all(execution), execution.wait())

    output, ended = run(scenario)
    assert output.split() == ["asked", "after"]
    assert ended.exit_code == 0


def test_it_is_asked_to_end_then_killed_with_all_that_it_started(container_engine: Engine, host: Host) -> None:
    async def scenario() -> None:
        async with started(host.executor(), host.order("sh", "-c", READY)) as execution:
            await read_until(execution, b"ready")
            execution.stop()
            output, ended = await asyncio.gather(read_all(execution), execution.wait())
        # The shell may say beside it that its `sleep` was terminated.
        assert "bye" in output.splitlines()
        assert ended == Ended(exit_code=5)
        deaf = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 300' & echo ready; while :; do sleep 1; done"
        async with started(host.executor(), host.order("sh", "-c", deaf)) as execution:
            await read_until(execution, b"ready")
            execution.stop()
            await asyncio.sleep(0.5)
            execution.kill()
            _, ended = await asyncio.gather(read_all(execution), execution.wait())
        assert ended == Ended(exit_code=128 + signal.SIGKILL)

    run(scenario)
    assert containers(container_engine) == []


def test_what_is_held_begins_at_its_word_and_what_is_taken_back_leaves_nothing(
    container_engine: Engine, host: Host
) -> None:
    async def scenario() -> None:
        starter, unused = await host.executor().make_ready(), await host.executor().make_ready()
        what = host.order("sh", "-c", "echo begun > here")
        await starter.hold(what)
        await unused.hold(what)
        assert len(containers(container_engine)) == 2
        assert not (host.work.workspace / "here").exists()
        execution = await starter.start(what)
        assert await asyncio.gather(read_all(execution), execution.wait()) == ["", Ended(exit_code=0)]
        assert (host.work.workspace / "here").exists()
        await unused.close()
        await unused.close()

    run(scenario)
    assert containers(container_engine) == []


def test_much_output_is_not_lost_when_it_is_read_slowly_and_nobody_holds_it_meanwhile(host: Host) -> None:
    async def scenario() -> None:
        script = "import sys, time; sys.stdout.write('x' * 20_000_000); sys.stdout.flush(); open('wrote', 'w'); input()"
        async with started(host.executor(), host.order("python3", "-c", script)) as execution:
            size = 0
            await asyncio.sleep(1.5)
            # The engine holds a few MB at most: whoever writes waits for whoever reads.
            assert not (host.work.workspace / "wrote").exists()
            while part := await execution.read():
                size += len(part)
            assert size >= 20_000_000
            await execution.wait()

    run(scenario)


def test_a_phase_that_is_held_up_is_told_why_and_what_it_has_used(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "WINDOW", 3.0)
    monkeypatch.setattr(phase, "READINGS", 0.5)
    executor = host.executor(cpus=0.2, memory=64 << 20)
    said: list[str] = []

    class Scribe:
        def output(self, data: bytes) -> None:
            raise AssertionError(data)

        def say(self, text: str) -> None:
            said.append(text)

    async def scenario() -> usage.Used:
        used = usage.Used(executor.advice, os.cpu_count() or 1)
        busy = phase.Phase(
            executor.make_ready,
            Scribe(),
            Limits(log=60, run=60, warning=1),
            clock=asyncio.get_running_loop().time,
            grace_seconds=lambda: 1,
            oom_kills=lambda: None,
            used=used,
        )
        spin = "import time; x = bytearray(20 << 20); until = time.time() + 8\nwhile time.time() < until: pass"
        await busy.run(phase.Step(host.order("python3", "-c", spin)))
        return used

    found = run(scenario).usage
    (line,) = said
    assert line.startswith("slow for lack of CPU: for ")
    assert " of its 0.2 processors, and was throttled for " in line
    assert line.endswith(" would do (QUAYMASTER_WORKER_CPUS)")
    assert found
    assert (found.millicpus, found.memory_limit_bytes) == (200, 64 << 20)
    assert found.throttled_ms > 500
    assert found.cpu_ms > 500
    assert 20 << 20 < found.memory_peak_bytes < 64 << 20


def test_mounts_are_for_all_for_those_that_change_nothing_or_for_the_others(host: Host, tmp_path: Path) -> None:
    for name in ("all", "ro", "wo"):
        folder = tmp_path / name
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        (folder / "here").write_text(name)
    mounts = Sorted[Sequence[Mount]](
        always=[Mount(str(tmp_path / "all"), "/all", read_only=True)],
        read_only=[Mount(str(tmp_path / "ro"), "/ro")],
        writing=[Mount(str(tmp_path / "wo"), "/wo")],
    )
    script = "exec 2> /dev/null; cat /all/here /ro/here /wo/here; echo; touch /all/x || echo closed; touch /wo/x"
    executor = host.executor(mounts=mounts)
    reading, _ = run(lambda: done(executor, host.order("sh", "-c", script, read_only=True)))
    writing, _ = run(lambda: done(executor, host.order("sh", "-c", script)))
    assert reading.splitlines()[:2] == ["allro", "closed"]
    assert writing.splitlines() == ["allwo", "closed"]
    assert (tmp_path / "wo" / "x").exists()


def test_networks_are_the_engines(container_engine: Engine, host: Host) -> None:
    devices = host.order("sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1")
    inside, _ = run(lambda: done(host.executor(), devices))
    assert sorted(inside.split()) == ["eth0", "lo"]
    alone, _ = run(lambda: done(host.executor(network="none"), devices))
    assert alone.split() == ["lo"]


@pytest.mark.parametrize(
    ("options", "variable", "allowed"),
    [
        ({"network": "nowhere"}, "QUAYMASTER_WORKER_NETWORK", "bridge"),
        ({"runtime": "gvisor"}, "QUAYMASTER_WORKER_RUNTIME", "runc"),
    ],
)
def test_what_the_engine_does_not_have_is_refused_at_the_start(
    host: Host, options: dict[str, str], variable: str, allowed: str
) -> None:
    with pytest.raises(ConfigurationRefused, match=allowed) as refused:
        run(lambda: host.executor(**options).try_out(host.work, NOBODY))
    assert refused.value.variable == variable


def test_a_runtime_that_the_engine_has_is_used(container_engine: Engine, host: Host) -> None:
    async def scenario() -> str:
        async with started(host.executor(runtime="runc"), host.order("sh", "-c", READY)) as execution:
            await read_until(execution, b"ready")
            shown = container_engine.docker(
                "inspect", "--format", "{{.HostConfig.Runtime}}", *containers(container_engine)
            )
            execution.kill()
            await asyncio.gather(read_all(execution), execution.wait())
            return shown.stdout.strip()

    assert run(scenario) == "runc"


def test_no_engine_is_refused_at_the_start(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    with warnings.catch_warnings():
        # The SDK leaves sockets to the collector that it could not connect.
        warnings.simplefilter("ignore", ResourceWarning)
        executor = host.executor(engine=f"unix://{tmp_path}/none")
        with pytest.raises(ConfigurationRefused, match=r"^DOCKER_HOST: found unix:///.*/none "):
            run(lambda: executor.try_out(host.work, NOBODY))
        gc.collect()


def _dying_agent(host: Host) -> subprocess.Popen[bytes]:
    script = f"""
import asyncio, time
from pathlib import Path
from quaymaster_worker.configuration.docker_options import DockerOptions
from quaymaster_worker.containers.docker_executor import DockerExecutor
from quaymaster_worker.executor import Order
async def main():
    executor = DockerExecutor(DockerOptions(), Path({str(host.state.root)!r}), "agent", time.monotonic)
    await executor.open()
    environment = {{"QUAYMASTER_RUN": "dying", "QUAYMASTER_ATTEMPT": "3"}}
    folder = Path({str(host.work.workspace)!r})
    order = Order(command=["sleep", "300"], environment=environment, folder=folder, image={IMAGE!r})
    await (await executor.make_ready()).start(order)
    print("started", flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""
    agent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert agent.stdout
    assert agent.stdout.readline() == b"started\n"
    return agent


def test_when_the_agent_dies_its_containers_are_removed(container_engine: Engine, host: Host) -> None:
    agent = _dying_agent(host)
    assert len(containers(container_engine)) == 1
    agent.kill()
    agent.communicate()
    deadline = time.monotonic() + 60
    while containers(container_engine):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_when_its_keeper_dies_as_well_the_next_agent_finds_them_by_their_labels(
    container_engine: Engine, host: Host
) -> None:
    agent = _dying_agent(host)
    keepers = subprocess.run(
        ["pgrep", "-f", f"containers.keeper {host.state.root}"], capture_output=True, text=True, check=True
    )
    for pid in keepers.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    agent.kill()
    agent.communicate()
    assert len(containers(container_engine)) == 1
    engine = host.executor().engine
    assert remove_of_run(engine, host.state.root, "another", 3)
    assert len(containers(container_engine)) == 1
    assert remove_of_run(engine, host.state.root, "dying", 3)
    assert containers(container_engine) == []
    # And those that no state file names go when an agent starts.
    again = _dying_agent(host)
    os.kill(again.pid, signal.SIGSTOP)
    run(lambda: _opened(host))
    assert containers(container_engine) == []
    again.kill()
    again.communicate()


async def _opened(host: Host) -> None:
    executor = DockerExecutor(DockerOptions(), host.state.root, "another", time.monotonic)
    await executor.open()
    await executor.close()
