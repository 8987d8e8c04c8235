"""What every executor promises: scrubbed, own session, merged output, and nothing left when it says so."""

import asyncio
import os
import signal
import sys
import time
from ast import literal_eval
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.errors import StartFailed
from quaymaster_worker.executor import Ended, Execution, Executor, Order
from quaymaster_worker.processes.marks import Mark, marked
from quaymaster_worker.processes.process_executor import ProcessExecutor

ESCAPE = "setsid sh -c 'sleep 300 & setsid sleep 300 & sleep 300' & echo started; exec sleep 300"
OF_THE_C_LIBRARY = 0b11 << 31
"""Signals 32 and 33: glibc lets nobody change them, so whoever started the tests decides."""
NOBODY = RunUser(name="nobody", uid=65534, gid=65534)


@pytest.fixture(params=[ProcessExecutor])
def executor(request: pytest.FixtureRequest) -> Executor:
    make: Callable[[], Executor] = request.param
    return make()


@pytest.fixture
def run_name(request: pytest.FixtureRequest) -> str:
    return f"contract-{os.getpid()}-{time.monotonic_ns()}"


def order(folder: Path, run: str, *command: str, user: RunUser | None = None, **environment: str) -> Order:
    plain = {"PATH": os.defpath, "QUAYMASTER_RUN": run, "QUAYMASTER_ATTEMPT": "1"}
    return Order(command=command, environment=plain | environment, folder=folder, user=user)


@asynccontextmanager
async def started(executor: Executor, what: Order) -> AsyncGenerator[Execution]:
    execution = await (await executor.make_ready()).start(what)
    try:
        yield execution
    finally:
        execution.kill()


async def read_all(execution: Execution) -> bytes:
    parts: list[bytes] = []
    while part := await execution.read():
        parts.append(part)
    return b"".join(parts)


async def read_until(execution: Execution, text: bytes) -> None:
    seen = b""
    while text not in seen:
        part = await execution.read()
        assert part, f"the output ended with {seen!r}"
        seen += part


async def until_escaped(run: str) -> None:
    """Wait for every process of `ESCAPE`: the shell, and what it started in sessions of their own."""
    while len(marked(Mark(run, 1))) < 4:
        await asyncio.sleep(0.02)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(120):
            await scenario()

    asyncio.run(bounded())


def test_output_is_merged_in_order_and_the_exit_code_is_told(executor: Executor, tmp_path: Path, run_name: str) -> None:
    async def scenario() -> None:
        what = order(tmp_path, run_name, "sh", "-c", "echo one; echo two >&2; echo three; pwd; exit 7")
        async with started(executor, what) as execution:
            output, ended = await asyncio.gather(read_all(execution), execution.wait())
        assert output.decode().split() == ["one", "two", "three", str(tmp_path)]
        assert ended == Ended(exit_code=7)

    run(scenario)


def test_the_command_sees_nothing_but_its_own_environment(
    executor: Executor, tmp_path: Path, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUAYMASTER_TOKEN", "secret")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/secret")

    async def scenario() -> None:
        async with started(executor, order(tmp_path, run_name, "env", GIVEN="x y")) as execution:
            output, _ = await asyncio.gather(read_all(execution), execution.wait())
        expected = {f"PATH={os.defpath}", f"QUAYMASTER_RUN={run_name}", "QUAYMASTER_ATTEMPT=1", "GIVEN=x y"}
        assert set(output.decode().splitlines()) == expected

    run(scenario)


@pytest.mark.parametrize(
    "odd",
    [
        ["=a\n\tb=\udcff", "", "a b", "two\nlines\n", "tab\t", "=x=", "漢字 é", "\udcff"],
        ["x" * 120_000] * 8,
        ["\n" * 120_000] * 2,
    ],
    ids=["odd", "large", "lines"],
)
def test_words_and_variables_arrive_as_they_are(
    executor: Executor, tmp_path: Path, run_name: str, odd: list[str]
) -> None:
    async def scenario() -> None:
        show = "import os, sys; print([os.fsencode(one) for one in (*sys.argv[1:], os.environ['ODD'])])"
        what = order(tmp_path, run_name, sys.executable, "-c", show, *odd, ODD=odd[0])
        async with started(executor, what) as execution:
            output, ended = await asyncio.gather(read_all(execution), execution.wait())
        assert ended.exit_code == 0
        assert literal_eval(output.decode()) == [os.fsencode(one) for one in (*odd, odd[0])]

    run(scenario)


@pytest.mark.parametrize("words", [["echo", "a\0b"], ["\0"]])
def test_what_no_process_can_be_given_starts_nothing_and_leaves_nothing(
    executor: Executor, tmp_path: Path, run_name: str, words: list[str]
) -> None:
    async def scenario() -> None:
        ready = await executor.make_ready()
        for what in (order(tmp_path, run_name, *words), order(tmp_path, run_name, "env", GIVEN="a\0b")):
            with pytest.raises(StartFailed, match="NUL"):
                await ready.start(what)
        await ready.close()
        assert marked(Mark(run_name, 1)) == []

    run(scenario)


def test_standard_input_is_empty_and_no_descriptor_leaks(executor: Executor, tmp_path: Path, run_name: str) -> None:
    async def scenario() -> None:
        what = order(tmp_path, run_name, "sh", "-c", "cat; ls /proc/self/fd | tr '\\n' ' '")
        async with started(executor, what) as execution:
            output, ended = await asyncio.gather(read_all(execution), execution.wait())
        # Three of its own, and the folder that ls reads.
        assert output.decode().split() == ["0", "1", "2", "3"]
        assert ended.exit_code == 0

    run(scenario)


def test_signals_are_as_a_program_expects_them(executor: Executor, tmp_path: Path, run_name: str) -> None:
    async def scenario() -> None:
        what = order(tmp_path, run_name, "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")
        async with started(executor, what) as execution:
            output, _ = await asyncio.gather(read_all(execution), execution.wait())
        found = [int(line.split()[1], 16) & ~OF_THE_C_LIBRARY for line in output.decode().splitlines()]
        assert found == [0, 0]

    run(scenario)


@pytest.mark.parametrize(
    ("command", "code"), [(["no-such-command-here"], 127), (["./none"], 127), (["/etc/passwd"], 126), (["/"], 126)]
)
def test_a_command_that_cannot_start_says_so_with_a_shells_code(
    executor: Executor, tmp_path: Path, run_name: str, command: list[str], code: int
) -> None:
    async def scenario() -> None:
        with pytest.raises(StartFailed) as failed:
            await (await executor.make_ready()).start(order(tmp_path, run_name, *command))
        assert failed.value.exit_code == code
        assert command[0] in failed.value.note

    run(scenario)


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\t=\n"])
def test_a_name_that_is_no_word_of_an_answer_is_not_found_either(
    executor: Executor, tmp_path: Path, run_name: str, name: str
) -> None:
    async def scenario() -> None:
        with pytest.raises(StartFailed) as failed:
            await (await executor.make_ready()).start(order(tmp_path, run_name, name))
        assert failed.value.exit_code == 127
        assert repr(name) in failed.value.note
        assert "No such file or directory" in failed.value.note

    run(scenario)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can close a folder to the command's user")
def test_a_folder_of_the_path_that_is_closed_to_the_user_hides_no_missing_command(
    executor: Executor, tmp_path: Path, run_name: str
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    async def scenario() -> None:
        nobody = RunUser(name="nobody", uid=65534, gid=65534)
        what = order(Path("/"), run_name, "no-such-command-here", user=nobody, PATH=f"{closed}:{os.defpath}")
        with pytest.raises(StartFailed) as failed:
            await (await executor.make_ready()).start(what)
        assert failed.value.exit_code == 127
        assert "No such file or directory" in failed.value.note

    run(scenario)


def test_stop_reaches_the_whole_tree_and_lets_it_end_well(executor: Executor, tmp_path: Path, run_name: str) -> None:
    async def scenario() -> None:
        script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
        async with started(executor, order(tmp_path, run_name, "sh", "-c", script)) as execution:
            await read_until(execution, b"ready")
            execution.stop()
            output, ended = await asyncio.gather(read_all(execution), execution.wait())
        # The shell may say beside it that its `sleep` was terminated.
        assert output.endswith(b"bye\n")
        assert ended == Ended(exit_code=0)

    run(scenario)


def test_kill_leaves_nothing_not_even_what_escaped_by_setsid(executor: Executor, tmp_path: Path, run_name: str) -> None:
    async def scenario() -> None:
        async with started(executor, order(tmp_path, run_name, "sh", "-c", ESCAPE)) as execution:
            await read_until(execution, b"started")
            await until_escaped(run_name)
            execution.kill()
            ended = await execution.wait()
            assert marked(Mark(run_name, 1)) == []
        assert ended == Ended(signal=signal.SIGKILL)

    run(scenario)


def test_what_a_command_leaves_in_the_background_ends_with_it(
    executor: Executor, tmp_path: Path, run_name: str
) -> None:
    async def scenario() -> None:
        script = "setsid sleep 300 & (sleep 0.2; echo late) & echo early; exit 4"
        async with started(executor, order(tmp_path, run_name, "sh", "-c", script)) as execution:
            output, ended = await asyncio.gather(read_all(execution), execution.wait())
        assert output == b"early\nlate\n"
        assert ended == Ended(exit_code=4)
        assert marked(Mark(run_name, 1)) == []

    run(scenario)


def test_what_was_made_ready_and_never_used_is_taken_back(executor: Executor) -> None:
    async def scenario() -> None:
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        starter = await executor.make_ready()
        await starter.close()
        await starter.close()
        assert {child.pid for child in psutil.Process().children(recursive=True)} == before

    run(scenario)


def test_a_command_that_is_held_begins_at_its_word_and_not_before(
    executor: Executor, tmp_path: Path, run_name: str
) -> None:
    async def scenario() -> None:
        what = order(tmp_path, run_name, "sh", "-c", "echo begun > here; exit 3")
        starter = await executor.make_ready()
        await starter.hold(what)
        await asyncio.sleep(0.5)
        assert list(tmp_path.iterdir()) == []
        execution = await starter.start(what)
        assert await execution.wait() == Ended(exit_code=3)
        assert (tmp_path / "here").read_text() == "begun\n"

    run(scenario)


def test_what_is_held_and_taken_back_never_begins_and_leaves_nothing(
    executor: Executor, tmp_path: Path, run_name: str
) -> None:
    async def scenario() -> None:
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        starter = await executor.make_ready()
        await starter.hold(order(tmp_path, run_name, "sh", "-c", "echo begun > here"))
        await starter.close()
        while {child.pid for child in psutil.Process().children(recursive=True)} != before:
            await asyncio.sleep(0.02)
        assert list(tmp_path.iterdir()) == []

    run(scenario)


@pytest.mark.parametrize("folder", ["gone", "."])
def test_what_is_held_and_cannot_start_says_so_at_its_word(
    executor: Executor, tmp_path: Path, run_name: str, folder: str
) -> None:
    async def scenario() -> None:
        what = order(tmp_path / folder, run_name, "no-such-command")
        starter = await executor.make_ready()
        await starter.hold(what)
        await asyncio.sleep(0.2)
        with pytest.raises(StartFailed) as failed:
            await starter.start(what)
        assert failed.value.exit_code == 127
        assert "No such file or directory" in failed.value.note

    run(scenario)


def test_what_is_ready_for_the_next_run_is_used_once_and_replaced_when_it_has_died() -> None:
    # Other tests of this process may have started what still runs.
    others = {child.pid for child in psutil.Process().children()}

    def wardens() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if child.pid not in others]

    async def scenario() -> None:
        executor = ProcessExecutor()
        await executor.keep_ready()
        await executor.keep_ready()
        (spare,) = wardens()
        first, second = await executor.make_ready(), await executor.make_ready()
        assert len(wardens()) == 2
        await first.close()
        assert not spare.is_running()
        await second.close()
        await executor.keep_ready()
        (spare,) = wardens()
        spare.kill()
        while spare.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)
        third = await executor.make_ready()
        execution = await third.start(
            Order(command=["true"], environment={"PATH": os.defpath, "QUAYMASTER_RUN": "r"}, folder=Path("/"))
        )
        assert await execution.wait() == Ended(exit_code=0)
        await executor.keep_ready()
        await executor.close()
        await executor.close()
        assert wardens() == []

    run(scenario)


def test_a_signal_is_told(executor: Executor, tmp_path: Path, run_name: str) -> None:
    async def scenario() -> None:
        async with started(executor, order(tmp_path, run_name, "sh", "-c", "kill -SEGV $$")) as execution:
            assert await execution.wait() == Ended(signal=signal.SIGSEGV)

    run(scenario)


def test_much_output_is_not_lost_when_it_is_read_slowly(executor: Executor, tmp_path: Path, run_name: str) -> None:
    async def scenario() -> None:
        script = "import sys; sys.stdout.write('x' * 3_000_000)"
        async with started(executor, order(tmp_path, run_name, sys.executable, "-c", script)) as execution:
            size = 0
            while part := await execution.read():
                size += len(part)
                await asyncio.sleep(0.001)
            assert size == 3_000_000
            assert await execution.wait() == Ended(exit_code=0)

    run(scenario)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the user")
def test_the_command_has_its_own_user_and_no_groups_of_the_agents(executor: Executor, run_name: str) -> None:
    async def scenario() -> None:
        what = order(Path("/"), run_name, "sh", "-c", "id -u; id -g; id -G; kill -9 $PPID || echo kept", user=NOBODY)
        async with started(executor, what) as execution:
            output, _ = await asyncio.gather(read_all(execution), execution.wait())
        assert output.decode().split()[:3] == ["65534", "65534", "65534"]
        assert output.decode().split()[-1] == "kept"

    run(scenario)


def test_when_the_agent_dies_everything_dies(executor: Executor, tmp_path: Path, run_name: str) -> None:
    """The agent is a process of its own here, and is killed."""
    script = f"""
import asyncio, pathlib
from quaymaster_worker.executor import Order
from {type(executor).__module__} import {type(executor).__name__}
async def main():
    environment = {{"PATH": {os.defpath!r}, "QUAYMASTER_RUN": {run_name!r}, "QUAYMASTER_ATTEMPT": "1"}}
    command = ["sh", "-c", {ESCAPE!r}]
    execution = await (await {type(executor).__name__}().make_ready()).start(
        Order(command=command, environment=environment, folder=pathlib.Path("/")))
    print((await execution.read()).decode(), flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""

    async def scenario() -> None:
        agent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
        assert agent.stdout is not None
        assert b"started" in await agent.stdout.readline()
        await until_escaped(run_name)
        agent.kill()
        await agent.wait()
        while marked(Mark(run_name, 1)):
            await asyncio.sleep(0.02)

    run(scenario)


def test_when_the_warden_dies_the_rest_is_found_by_its_mark(tmp_path: Path, run_name: str) -> None:
    async def scenario() -> None:
        async with started(ProcessExecutor(), order(tmp_path, run_name, "sh", "-c", ESCAPE)) as execution:
            await read_until(execution, b"started")
            await until_escaped(run_name)
            psutil.Process(execution.pids[0]).kill()
            assert await execution.wait() == Ended()
            assert marked(Mark(run_name, 1)) == []

    run(scenario)
