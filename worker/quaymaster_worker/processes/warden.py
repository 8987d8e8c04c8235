"""The small process between the agent and a phase: no process of the phase outlives it, and it outlives no agent.

Run as a script, with nothing of Quaymaster or its dependencies imported. Its standard input is a socket to the agent:
one line of JSON orders the command, `T` asks the phase to end, `K` kills it, and the end of the stream means that the
agent is dead. It answers `{"started": pid}` and, once no descendant is left, `{"exit": n}` or `{"signal": n}`; or
`{"errno": n, "error": text}` when the command could not be started. Descendants that live on after PATIENCE seconds of
SIGKILL (they have another user's rights, or hang in the kernel) are named in the last answer as `"left": [pid, …]`.

It is its descendants' reaper, so that none escapes by setsid and double fork. It keeps the agent's uid, so that a phase
with a uid of its own cannot signal it; the order comes by socket, so that a phase's LD_PRELOAD never loads into it.
"""

import ctypes
import errno
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LINGER = 1.0
"""Seconds that background processes may finish writing after the command itself has ended."""
PATIENCE = 10.0
"""Seconds of SIGKILL after which what still lives is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.5
OOM_SCORE = "500"
"""When memory runs out, the phase goes before the agent does."""


def main() -> None:
    """Start the ordered command, obey, and report its end."""
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    control = socket.socket(fileno=0)
    order = _read_order(control)
    set_by_prctl(PR_SET_CHILD_SUBREAPER, 1)
    ended, wake = os.pipe()
    for end in (ended, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, _noticed)
    try:
        command = _start(order, control)
    except OSError as error:
        _answer(control, {"errno": error.errno, "error": f"{error.filename or order['command'][0]}: {error.strerror}"})
        return
    _answer(control, {"started": command})
    _answer(control, _attend(command, control, ended, order["cgroup"]))


def set_by_prctl(option: int, value: int) -> bool:
    """prctl(2), where the system has it."""
    try:
        return ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False


def _read_order(control: socket.socket) -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        part = control.recv(65_536)
        if not part:
            sys.exit(0)
        line += part
    return json.loads(line)


def _answer(control: socket.socket, message: dict[str, Any]) -> None:
    # An agent that is gone needs no answer.
    with suppress(OSError):
        control.sendall(json.dumps(message).encode() + b"\n")


def _noticed(_number: int, _frame: object) -> None:
    """SIGCHLD only has to wake the select below."""


def _start(order: dict[str, Any], control: socket.socket) -> int:
    """Fork and exec the command; an OSError of the child's is raised here."""
    failed, tell = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(failed)
        _become(order, control, parent, tell)
    os.close(tell)
    with os.fdopen(failed, "rb") as pipe:
        told = pipe.read()
    if told:
        os.waitpid(pid, 0)
        number, name = json.loads(told)
        raise OSError(number, os.strerror(number), name)
    return pid


def _become(order: dict[str, Any], control: socket.socket, parent: int, tell: int) -> NoReturn:
    """In the child: everything up to exec."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            # The C library keeps a few real-time signals for itself.
            with suppress(OSError):
                signal.signal(number, signal.SIG_DFL)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write(OOM_SCORE)
        if order["cgroup"]:
            _enter(order["cgroup"])
        if order["uid"] is not None:
            os.setgroups([])
            os.setgid(order["gid"])
            os.setuid(order["uid"])
        # After setuid, which clears it; and the parent may have died before it was set.
        set_by_prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        os.umask(0o022)
        os.chdir(order["folder"])
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(1, 2)
        control.detach()
        _exec(order["command"], order["environment"])
    except OSError as error:
        os.write(tell, json.dumps([error.errno, str(error.filename or order["command"][0])]).encode())
    except (ValueError, TypeError):
        os.write(tell, json.dumps([errno.EINVAL, order["command"][0]]).encode())
    os._exit(127)


def _exec(command: list[str], environment: dict[str, str]) -> NoReturn:
    """execvp(3) with the command's own PATH. os.execvpe imports on its way, which the new uid may not be able to."""
    name = command[0]
    folders = [""] if "/" in name else environment.get("PATH", os.defpath).split(":")
    failure = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    for folder in folders:
        try:
            os.execve(os.path.join(folder, name), command, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            # A folder that this user may not enter has no commands; shells say so too.
            if os.access(folder or ".", os.X_OK):
                failure = error
    raise failure


def _enter(cgroup: str) -> None:
    # Without it, it is killed process by process.
    with suppress(OSError), open(os.path.join(cgroup, "cgroup.procs"), "w") as members:
        members.write("0")


def _attend(command: int, control: socket.socket, ended: int, cgroup: str | None) -> dict[str, Any]:
    """Obey and reap until the command has ended and no descendant is left."""
    while True:
        ready, _, _ = select.select([control, ended], [], [])
        if control in ready:
            wish = _receive(control)
            if wish in (b"", b"K"):
                status = _kill_all(command, cgroup)
                return _describe(status) | _left()
            if wish == b"T":
                _signal_tree(signal.SIGTERM)
        if ended in ready:
            with suppress(BlockingIOError):
                os.read(ended, 4096)
            status = _reap(command)
            if status is not None:
                _linger()
                _kill_all(command, cgroup)
                return _describe(status) | _left()


def _receive(control: socket.socket) -> bytes:
    try:
        return control.recv(1)
    except ConnectionError:
        return b""


def _reap(command: int) -> int | None:
    """Reap whatever has ended; the command's wait status if it is among it."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == command:
                found = status
    return found


def _linger() -> None:
    until = time.monotonic() + LINGER
    while time.monotonic() < until and _descendants():
        _reap(-1)
        time.sleep(0.01)


def _kill_all(command: int, cgroup: str | None) -> int | None:
    """SIGKILL until no child is left, or PATIENCE is over: orphans become our children, so none can be missed."""
    status, pause, until = None, FIRST_PAUSE, time.monotonic() + PATIENCE
    while True:
        _signal_tree(signal.SIGKILL)
        if cgroup:
            # The kernel asks nobody's permission here, not even where a program has another user's rights.
            with suppress(OSError), open(os.path.join(cgroup, "cgroup.kill"), "w") as kill:
                kill.write("1")
        try:
            while True:
                pid, found = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == command:
                    status = found
        except ChildProcessError:
            return status
        if time.monotonic() >= until:
            return status
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _left() -> dict[str, Any]:
    left = _descendants()
    return {"left": left} if left else {}


def _signal_tree(number: signal.Signals) -> None:
    for pid in _descendants():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _descendants() -> list[int]:
    """Every living descendant, youngest generations last."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError, ValueError), open(f"/proc/{entry}/stat", "rb") as stat:
                state, parent = stat.read().rpartition(b")")[2].split()[:2]
                if state in (b"Z", b"X"):
                    continue
                children.setdefault(int(parent), []).append(int(entry))
    found = list(children.get(os.getpid(), []))
    for pid in found:
        found += children.get(pid, [])
    return found


def _describe(status: int | None) -> dict[str, Any]:
    if status is None:
        return {"signal": int(signal.SIGKILL)}
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    return {"exit": os.WEXITSTATUS(status)}


if __name__ == "__main__":
    main()
