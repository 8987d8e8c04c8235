"""Runs a command as processes of this host, under a warden (see `warden.py`)."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from quaymaster.domain.messages import Assign, ImageUsed

from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.errors import StartFailed
from quaymaster_worker.executor import Ended, Order, Places
from quaymaster_worker.metering.cgroup_readings import read_cgroup, read_own_cgroup, read_processes, since
from quaymaster_worker.metering.usage import Advice, Reading
from quaymaster_worker.processes import warden
from quaymaster_worker.processes.marks import Mark, kill_marked, mark_of
from quaymaster_worker.workspace.folders import WorkFolder

READ_SIZE = 64 * 1024
NOT_FOUND, NOT_EXECUTABLE = 127, 126
START = "import sys; sys.path.append(sys.argv[1]); import warden; warden.run()"
"""Imported, the warden is compiled once and kept; a script would be compiled at each start."""


class ProcessExecution:
    """A command under its warden."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        output: asyncio.StreamReader,
        control: socket.socket,
        order: Order,
        task: Reading | None,
    ) -> None:
        self._process = process
        self._output = output
        self._control = control
        self._answers = _Answers(control)
        self._mark: Mark = mark_of(order.environment)
        self._cgroup = order.cgroup
        self._task = task
        self.command_pid = 0

    @property
    def pids(self) -> Sequence[int]:
        """The warden and the command."""
        return self._process.pid, self.command_pid

    async def read(self) -> bytes:
        """The next bytes of the merged output; empty at the end."""
        return await self._output.read(READ_SIZE)

    async def started(self, order: Order) -> None:
        """Wait until the command is there. Raises StartFailed."""
        answer = await self._answers.next()
        if "started" in answer:
            self.command_pid = int(answer["started"])
            return
        await self._reap()
        number = int(answer.get("errno", errno.EIO))
        code = NOT_FOUND if number in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE
        raise StartFailed(code, f"cannot start {order.command[0]!r}: {answer.get('error', 'its warden died')}"[:200])

    async def wait(self) -> Ended:
        """The command's end."""
        answer = await self._answers.next()
        await self._reap()
        named = answer.get("left")
        left = [int(pid) for pid in named.split(",")] if named else []
        if not answer:
            left = await kill_marked(self._mark)
        return Ended(exit_code=_number(answer.get("exit")), signal=_number(answer.get("signal")), left=tuple(left))

    async def reading(self) -> Reading | None:
        """By its cgroup, by the task's of which it is all, or else by its processes."""
        found = read_cgroup(self._cgroup) if self._cgroup else None
        if not found and self._task:
            now = read_own_cgroup()
            found = now and since(self._task, now)
        return found or await asyncio.to_thread(read_processes, self.pids)

    def stop(self) -> None:
        """SIGTERM to the whole tree."""
        self._wish(b"T")

    def kill(self) -> None:
        """SIGKILL to the whole tree."""
        self._wish(b"K")

    def _wish(self, wish: bytes) -> None:
        try:
            self._control.send(wish)
        except OSError:
            # The warden is gone, and with it the tree; `wait` says so.
            return

    async def _reap(self) -> None:
        await _close_and_reap(self._process, self._control)


class _Answers:
    """The warden's lines, read without threads."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._rest = b""

    async def next(self) -> Mapping[str, str]:
        """The next answer; an empty one when the warden has died."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._rest:
            try:
                part = await loop.sock_recv(self._control, 65_536)
            except ConnectionError:
                part = b""
            if not part:
                return {}
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return read_answer(line)


class WaitingWarden:
    """A warden that runs and waits for its order: starting it takes longer than all the rest of a start."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        output: asyncio.StreamReader,
        control: socket.socket,
        *,
        in_task: bool,
    ) -> None:
        self._in_task = in_task
        self._process = process
        self._output = output
        self._control = control
        self._speaking = asyncio.Lock()
        self._holds = False
        self._used = False

    async def hold(self, order: Order) -> None:
        """Have all done for the order but the command itself. Raises StartFailed."""
        async with self._speaking:
            await self._hold(order)

    async def _hold(self, order: Order) -> None:
        encoded = encode(order)
        self._holds = True
        await self._say(encoded)

    async def _say(self, words: bytes) -> None:
        # A warden that has died meanwhile gives no answer either, and that is what is told.
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self._control, words)

    async def start(self, order: Order) -> ProcessExecution:
        """Start the command, be it held or not. Raises StartFailed."""
        async with self._speaking:
            if not self._holds:
                await self._hold(order)
            self._used = True
            await self._say(b"G")
        task = read_own_cgroup() if self._in_task else None
        execution = ProcessExecution(self._process, self._output, self._control, order, task)
        await execution.started(order)
        return execution

    @property
    def waits(self) -> bool:
        """Whether it lives, and was not used."""
        return not self._used and self._process.poll() is None

    async def close(self) -> None:
        """End it, unless it was used."""
        if not self._used:
            self._used = True
            await _close_and_reap(self._process, self._control)


class ProcessExecutor:
    """Commands as processes: a session of their own, a scrubbed environment, and the order's user.

    One warden waits for the next run, whichever worker of the agent gets it: starting one is most of a start.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, *, in_task: bool = False) -> None:
        """`in_task`: it is all that runs in a task of ECS, whose cgroup is its own."""
        self._environment = environment or {}
        self._in_task = in_task
        self._spare: WaitingWarden | None = None

    @property
    def advice(self) -> Advice:
        """A task is as large as its pool says; a host is as large as it is."""
        if self._in_task:
            return Advice(cpus="the pool's --cpu", memory="the pool's --memory")
        return Advice(cpus="a larger host", memory="a larger host")

    def places(self, folder: WorkFolder) -> Places:
        """As they lie on the host."""
        named = (folder.workspace, folder.home, folder.temporary, folder.outputs)
        workspace, home, temporary, outputs = map(str, named)
        return Places(workspace=workspace, home=home, temporary=temporary, outputs=outputs)

    @property
    def outside(self) -> tuple[str, ...]:
        """None: of a host's folders nobody has said that others have the same."""
        return ()

    def passed(self, *, read_only: bool) -> Mapping[str, str]:
        """The same for all."""
        return self._environment

    async def try_out(self, work: WorkFolder, user: RunUser | None) -> None:
        """Run a command. Raises StartFailed, OSError."""
        starter = await self.make_ready()
        order = Order(command=["true"], environment={"PATH": os.defpath}, folder=work.workspace, user=user)
        try:
            await (await starter.start(order)).wait()
        except StartFailed as error:
            # A host without `true` is none of ours; that it was looked for says that all the rest worked.
            if error.exit_code != NOT_FOUND:
                raise

    async def open(self) -> None:
        """Nothing: a warden of its own is beside each command."""

    async def bring(self, assign: Assign, say: Callable[[str], None]) -> ImageUsed | None:
        """Nothing: whatever a command needs is here, or is not."""
        return None

    async def remove_left(self, run: str, attempt: int) -> bool:
        """Attempts are processes, and leave nothing else."""
        return True

    async def make_ready(self) -> WaitingWarden:
        """The warden that waits, or a new one. Raises OSError."""
        spare, self._spare = self._spare, None
        if spare and spare.waits:
            return spare
        if spare:
            await spare.close()
        return await self._new()

    async def keep_ready(self) -> None:
        """Have a warden wait. Raises OSError."""
        if self._spare is None:
            self._spare = await self._new()

    async def close(self) -> None:
        """End the warden that waits."""
        spare, self._spare = self._spare, None
        if spare:
            await spare.close()

    async def _new(self) -> WaitingWarden:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        read_end, write_end = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", START, str(Path(warden.__file__).parent)],
                stdin=theirs.fileno(),
                stdout=write_end,
                env={"PATH": os.defpath},
                cwd="/",
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(write_end)
        return WaitingWarden(process, await _reader(read_end), ours, in_task=self._in_task)


async def _close_and_reap(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    while process.poll() is None:
        await asyncio.sleep(0.002)


async def _reader(descriptor: int) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_SIZE)
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


def read_answer(line: bytes) -> Mapping[str, str]:
    """The fields of a line of the warden's."""
    return dict(field.split("=", 1) for field in os.fsdecode(line).rstrip("\n").split("\t"))


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def encode(order: Order) -> bytes:
    """As the warden reads it. Raises StartFailed."""
    user = (str(order.user.uid), str(order.user.gid)) if order.user else ("", "")
    environment = [f"{name}={value}" for name, value in order.environment.items()]
    head = (str(order.folder), *user, str(order.cgroup or ""), str(len(order.command)))
    fields = [os.fsencode(field) for field in (*head, *order.command, *environment)]
    if any(b"\0" in field for field in fields):
        raise StartFailed(NOT_EXECUTABLE, "cannot start a command with a NUL character, in it or in its environment")
    encoded = b"\0".join(fields)
    return b"%d\n%s" % (len(encoded), encoded)
