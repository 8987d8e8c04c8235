"""Runs a command as processes of this host, under a warden (see `warden.py`)."""

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from quaymaster_worker.errors import StartFailed
from quaymaster_worker.executor import Ended, Order
from quaymaster_worker.processes import warden
from quaymaster_worker.processes.marks import Mark, kill_marked, mark_of

READ_SIZE = 64 * 1024
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class ProcessExecution:
    """A command under its warden."""

    def __init__(
        self, process: subprocess.Popen[bytes], output: asyncio.StreamReader, control: socket.socket, mark: Mark
    ) -> None:
        self._process = process
        self._output = output
        self._control = control
        self._answers = _Answers(control)
        self._mark = mark
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
            self.command_pid = answer["started"]
            return
        await self._reap()
        number = answer.get("errno", errno.EIO)
        code = NOT_FOUND if number in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE
        raise StartFailed(code, f"cannot start {order.command[0]!r}: {answer.get('error', 'its warden died')}"[:200])

    async def wait(self) -> Ended:
        """The command's end."""
        answer = await self._answers.next()
        await self._reap()
        left = answer.get("left", []) if answer else await kill_marked(self._mark)
        return Ended(exit_code=answer.get("exit"), signal=answer.get("signal"), left=tuple(left))

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

    async def next(self) -> dict[str, Any]:
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
        return json.loads(line)


class WaitingWarden:
    """A warden that runs and waits for its order: starting it takes longer than all the rest of a start."""

    def __init__(self, process: subprocess.Popen[bytes], output: asyncio.StreamReader, control: socket.socket) -> None:
        self._process = process
        self._output = output
        self._control = control
        self._used = False

    async def start(self, order: Order) -> ProcessExecution:
        """Start the command. Raises StartFailed."""
        self._used = True
        execution = ProcessExecution(self._process, self._output, self._control, mark_of(order.environment))
        # A warden that has died meanwhile gives no answer either, and that is what is told.
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self._control, _encode(order))
        await execution.started(order)
        return execution

    async def close(self) -> None:
        """End it, unless it was used."""
        if not self._used:
            self._used = True
            await _close_and_reap(self._process, self._control)


class ProcessExecutor:
    """Commands as processes: a session of their own, a scrubbed environment, and the order's user."""

    async def make_ready(self) -> WaitingWarden:
        """Start a warden. Raises OSError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        read_end, write_end = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(warden.__file__))],
                stdin=theirs.fileno(),
                stdout=write_end,
                env={"PATH": os.defpath},
                cwd="/",
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(write_end)
        return WaitingWarden(process, await _reader(read_end), ours)


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


def _encode(order: Order) -> bytes:
    return (
        json.dumps(
            {
                "command": list(order.command),
                "environment": dict(order.environment),
                "folder": str(order.folder),
                "uid": order.user.uid if order.user else None,
                "gid": order.user.gid if order.user else None,
                "cgroup": str(order.cgroup) if order.cgroup else None,
            }
        ).encode()
        + b"\n"
    )
