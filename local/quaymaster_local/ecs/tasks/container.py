"""The stand-in for a task's container: runs one agent and leaves nothing of it behind.

Run as a script: `python -P container.py PROGRAM ARG…`. It writes the program's pid to standard output, passes
SIGTERM on to the program alone (as a container's process 1 gets it), and when the program ends kills every process
that it left, then ends with its code, 128 + N for signal N. When standard input closes, which also happens when the
ECS endpoint dies, everything is killed at once.

With `--leave-orphans` before the program it stands for a host instead: what a crashed program left goes on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from types import FrameType

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies (Linux; elsewhere they are found only while it lives)."""
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")


def end_with_parent(parent: int) -> None:
    """In the program before it is one: it is killed when its container is, who cannot end it then (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(137)


def kill_descendants() -> None:
    """SIGKILL every descendant, again until none is left: one may fork while the others are killed."""
    this = psutil.Process()
    while living := [one for one in this.children(recursive=True) if not ended(one)]:
        for process in living:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        # Not psutil's wait: it would collect the program's exit code before run() can.
        time.sleep(0.01)


def ended(process: psutil.Process) -> bool:
    """Whether nothing of it runs any more."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def collect_children() -> None:
    """Take the exit codes of adopted orphans: a zombie would outlive its container."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0)[0]:
            pass


def kill_when_input_closes() -> None:
    """Block until standard input ends, then kill."""
    while os.read(0, 1):
        pass
    kill_descendants()


def run(argv: list[str]) -> int:
    """Run the program to its end; returns the container's exit code."""
    leave_orphans = argv[0] == "--leave-orphans"
    argv = argv[1:] if leave_orphans else argv
    if not leave_orphans:
        adopt_orphans()
    program = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=2,
        start_new_session=True,
        preexec_fn=partial(end_with_parent, os.getpid()),
    )

    def pass_on(number: int, _: FrameType | None) -> None:
        program.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(program.pid, flush=True)
    threading.Thread(target=kill_when_input_closes, daemon=True).start()
    code = program.wait()
    if not leave_orphans:
        kill_descendants()
        collect_children()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
