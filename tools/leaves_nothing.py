"""Run a command; fail if it leaves a process or a temporary folder behind. Linux; needs nothing but Python.

`python3 tools/leaves_nothing.py COMMAND ARG…`. Its own exit code goes on; what is left is named, ended and removed, and
turns 0 into 1. Whatever loses its parent inside becomes a child of this process, also what left its session and its
process group, so nothing escapes. `TMPDIR` is a fresh folder that must be empty at the end, but for what tools keep.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 30
"""What was told to end may take so long: a busy machine is no reason to fail."""
TOOLS_OWN = ("pytest-of-", "uv-", ".lark_cache_")
"""pytest keeps its folders of the last runs, for who wants to look into them; uv the files that it locks; checkov's
parser its grammars."""


def run(command: list[str]) -> int:
    """The command's exit code, or 1 if it ended well and left something."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")
    folder = Path(tempfile.mkdtemp(prefix="quaymaster-run-"))
    # Phases that run as another user get through to their own folders below.
    folder.chmod(0o711)
    try:
        code = call(command, folder)
        left = [*processes_left(), *folders_left(folder)]
    finally:
        end_children()
        shutil.rmtree(folder, ignore_errors=True)
    for one in left:
        print(f"left behind: {one}", file=sys.stderr)
    return code or int(bool(left))


def call(command: list[str], folder: Path) -> int:
    """Run it to its end; a signal to this process is passed on to it."""
    program = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(folder)})
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _: program.send_signal(got))
    # Not `wait`: the exit codes of adopted children are to be taken as they end, as process 1 does.
    while (ended := os.waitpid(-1, 0))[0] != program.pid:
        pass
    program.returncode = os.waitstatus_to_exitcode(ended[1])
    return program.returncode if program.returncode >= 0 else 128 - program.returncode


def processes_left() -> list[str]:
    """Who still lives after the grace, each with its command."""
    deadline = time.monotonic() + GRACE_SECONDS
    while children() and time.monotonic() < deadline:
        collect()
        time.sleep(0.1)
    return [f"process {pid}: {command_of(pid)}" for pid in children()]


def folders_left(folder: Path) -> list[str]:
    """What lies in the temporary folder."""
    return [f"{path.name} in TMPDIR" for path in sorted(folder.iterdir()) if not path.name.startswith(TOOLS_OWN)]


def children() -> list[int]:
    """The living children of this process, adopted ones among them."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == os.getpid() and state != "Z":
                found.append(int(entry.name))
    return found


def command_of(pid: int) -> str:
    """Its command line, and the folder that it stands in."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return f"{words[:300]} (in {os.readlink(f'/proc/{pid}/cwd')})"
    except OSError:
        return "has just ended"


def end_children() -> None:
    """SIGKILL, again until nobody is left: the children of those that are killed come to us."""
    while left := children():
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        collect()
        time.sleep(0.05)
    collect()


def collect() -> None:
    """Take the exit codes of adopted children."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
