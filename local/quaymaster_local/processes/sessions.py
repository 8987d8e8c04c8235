"""Processes of the local cloud: started in a session of their own, told apart from later ones with the same pid."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

# There is no state to save: what has not ended by then is killed.
STOP_SECONDS = 2
# A killed process is gone as soon as the kernel gets round to it.
COLLECT_SECONDS = 60

# Started by this process: kept, because only their parent can collect them when they end.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """A process and the moment it began: the pair never names another process, a pid alone may."""

    name: str
    pid: int
    create_time: float

    def running(self) -> psutil.Process | None:
        """The process, if this very one is still there and not a zombie."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.create_time) < 0.01
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def as_json(self) -> dict[str, str | int | float]:
        """The identity as it is kept in `deployment.json`."""
        return asdict(self)


type Started = Callable[[ProcessIdentity], None]


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a process is started. `lifeline` is the read end of a pipe that it watches, see `Lifeline`."""

    name: str
    argv: Sequence[str | Path]
    environ: Mapping[str, str]
    log: Path
    folder: Path
    lifeline: int


def start(command: Command, started: Started) -> tuple[subprocess.Popen[bytes], ProcessIdentity]:
    """Start it in its own session, detached from the terminal, with its output appended to its log.

    `started` hears of it at once: whatever happens next, someone knows what to stop.
    """
    with command.log.open("ab") as log:
        process = subprocess.Popen(
            [str(part) for part in command.argv],
            env=dict(command.environ),
            cwd=command.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(command.lifeline,),
        )
    _children[process.pid] = process
    identity = identify(command.name, process.pid)
    started(identity)
    return process, identity


def identify(name: str, pid: int) -> ProcessIdentity:
    """The identity of a process that is running now."""
    return ProcessIdentity(name=name, pid=pid, create_time=psutil.Process(pid).create_time())


def stop_all(identities: Sequence[ProcessIdentity], grace_seconds: float = STOP_SECONDS) -> None:
    """Ask each to stop, in the order given, then kill what is left of them: their descendants and process groups."""
    for identity in identities:
        stop(identity, grace_seconds)


def stop(identity: ProcessIdentity, grace_seconds: float = STOP_SECONDS) -> None:
    """SIGTERM, wait, then SIGKILL to whatever is left of its tree and its process group."""
    process = identity.running()
    if process is None:
        _collect(identity.pid)
        return
    tree = [process, *_descendants(process)]
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
        psutil.wait_procs([process], timeout=grace_seconds)
    # Children that appeared since then are found through the group; those that left it, through the first look.
    left = [one for one in {*tree, *_group(identity.pid)} if one.is_running()]
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    _await_end(left)
    _collect(identity.pid)


def _await_end(killed: Sequence[psutil.Process]) -> None:
    """Wait until nobody of them runs; whose exit code nobody has taken yet runs no more."""
    deadline = time.monotonic() + COLLECT_SECONDS
    while any(_runs(one) for one in killed) and time.monotonic() < deadline:
        time.sleep(0.01)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _collect(pid: int) -> None:
    child = _children.pop(pid, None)
    if child is not None:
        child.wait(COLLECT_SECONDS)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _group(leader: int) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == leader:
                found.append(process)
    return found


def kill_group(pid: int) -> None:
    """SIGKILL to the process group of a child that leads one; nothing if it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
