"""The small process between the agent and a phase: no process of the phase outlives it, and it outlives no agent.

Runs by itself, with nothing of Quaymaster or its dependencies imported, and of the standard library only what starts
fast: a run waits for it. Its standard input is a socket to the agent. An order comes first: its length in a line, then,
with NUL between them, folder, uid, gid, cgroup (each may be empty), the number of the command's words, the words, and
the environment as `NAME=value`. All is made ready for it then, up to the very last step; that is taken at `G`. Then `T`
asks the phase to end, `K` kills it, and the end of the stream means that the agent is dead.
It answers in lines of fields with tabs between them: `started=pid` and, once no descendant is left,
`exit=n` or `signal=n`; or `errno=n` and `error=text` when the command could not be started. Descendants that live on
after PATIENCE seconds of SIGKILL (they have another user's rights, or hang in the kernel) are named in the last answer
as `left=pid,pid`.

It is its descendants' reaper, so that none escapes by setsid and double fork. It keeps the agent's uid, so that a phase
with a uid of its own cannot signal it; the order comes by socket, so that a phase's LD_PRELOAD never loads into it.
"""

import ctypes
import errno
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LINGER = 1.0
"""Seconds that background processes may finish writing after the command itself has ended."""
PATIENCE = 10.0
"""Seconds of SIGKILL after which what still lives is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.5
OOM_SCORE = "500"
"""When memory runs out, the phase goes before the agent does."""
CONTROL = 0
"""The socket to the agent."""
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)
"""By the warden alone."""


class Order:
    """What the agent wants to be run."""

    def __init__(self, encoded: bytes) -> None:
        folder, uid, gid, cgroup, words, *rest = encoded.split(b"\0")
        self.folder = folder
        self.user = (int(uid), int(gid)) if uid else None
        self.cgroup = os.fsdecode(cgroup)
        self.command = rest[: int(words)]
        self.environment = dict(one.split(b"=", 1) for one in rest[int(words) :])


def main() -> None:
    """Start the ordered command, obey, and report its end."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        _set(number, signal.SIG_IGN if number in IGNORED else signal.SIG_DFL)
    set_by_prctl(PR_SET_CHILD_SUBREAPER, 1)
    ended, wake = os.pipe()
    for end in (ended, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, _noticed)
    order = _read_order()
    try:
        command = _held(order)
        if _receive() != b"G":
            # Taken back, or its agent is dead.
            _kill_all(command.pid, order.cgroup)
            return
        command.begin()
    except OSError as error:
        _answer(errno=error.errno, error=f"{os.fsdecode(error.filename or order.command[0])}: {error.strerror}")
        return
    _answer(started=command.pid)
    _answer(**_attend(command.pid, ended, order.cgroup))


def set_by_prctl(option: int, value: int) -> bool:
    """prctl(2), where the system has it."""
    try:
        return ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False


def _read_order() -> Order:
    # Not a byte more than the order: what follows it is the agent's next word.
    length = b""
    while not length.endswith(b"\n"):
        length += _part(1)
    left, encoded = int(length), b""
    while left > len(encoded):
        encoded += _part(min(left - len(encoded), 65_536))
    return Order(encoded)


def _part(size: int) -> bytes:
    part = os.read(CONTROL, size)
    if not part:
        sys.exit(0)
    return part


def _answer(**fields: int | str | None) -> None:
    # A name that is not found may hold what parts fields and answers.
    plain = {name: str(value).replace("\t", " ").replace("\n", " ") for name, value in fields.items()}
    told = "\t".join(f"{name}={value}" for name, value in plain.items())
    try:
        os.write(CONTROL, os.fsencode(told) + b"\n")
    except OSError:
        # An agent that is gone needs no answer.
        return


def _noticed(_number: int, _frame: object) -> None:
    """SIGCHLD only has to wake the select below."""


class Command:
    """A child that has become all that the command is to be, and waits for the word to be it."""

    def __init__(self, pid: int, failed: int, go: int) -> None:
        self.pid = pid
        self._failed = failed
        self._go = go

    def begin(self) -> None:
        """Let it be the command; an OSError of the child's, whenever it met it, is raised here."""
        self._let_go()
        os.close(self._go)
        with open(self._failed, "rb") as pipe:
            number, _, name = pipe.read().partition(b" ")
        if number:
            os.waitpid(self.pid, 0)
            raise OSError(int(number), os.strerror(int(number)), name)

    def _let_go(self) -> None:
        try:
            os.write(self._go, b"G")
        except BrokenPipeError:
            # It has failed already; at what is read next.
            return


def _held(order: Order) -> Command:
    """Fork the command's process, as far as it goes before the command itself. Raises OSError."""
    failed, tell = os.pipe()
    wait, go = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(failed)
        os.close(go)
        _become(order, parent, wait, tell)
    os.close(tell)
    os.close(wait)
    return Command(pid, failed, go)


def _become(order: Order, parent: int, wait: int, tell: int) -> None:
    """In the child: everything up to exec; it does not return."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in IGNORED:
            signal.signal(number, signal.SIG_DFL)
        _write("/proc/self/oom_score_adj", OOM_SCORE)
        if order.cgroup:
            # Without it, it is killed process by process.
            _write(os.path.join(order.cgroup, "cgroup.procs"), "0")
        if order.user:
            uid, gid = order.user
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        # After setuid, which clears it; and the parent may have died before it was set.
        set_by_prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        os.umask(0o022)
        os.chdir(order.folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), CONTROL)
        os.dup2(1, 2)
        if os.read(wait, 1) != b"G":
            os._exit(1)
        _exec(order.command, order.environment)
    except OSError as error:
        os.write(tell, b"%d %s" % (error.errno or errno.EIO, os.fsencode(error.filename or order.command[0])))
    except (ValueError, TypeError):
        os.write(tell, b"%d %s" % (errno.EINVAL, order.command[0]))
    os._exit(127)


def _set(number: int, handler: signal.Handlers) -> None:
    try:
        signal.signal(number, handler)
    except OSError:
        # The C library keeps a few real-time signals for itself.
        return


def _write(file: str, text: str) -> bool:
    """Whether it could be written: what the kernel offers under these names, it need not offer here."""
    try:
        with open(file, "w") as opened:
            opened.write(text)
    except OSError:
        return False
    return True


def _exec(command: list[bytes], environment: dict[bytes, bytes]) -> None:
    """execvp(3) with the command's own PATH; it does not return. Raises OSError.

    os.execvpe imports on its way, which the new uid may not be able to.
    """
    name = command[0]
    folders = [b""] if b"/" in name else environment.get(b"PATH", os.defpath.encode()).split(b":")
    failure = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    for folder in folders:
        try:
            os.execve(os.path.join(folder, name), command, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            # A folder that this user may not enter has no commands; shells say so too.
            if os.access(folder or b".", os.X_OK):
                failure = error
    raise failure


def _attend(command: int, ended: int, cgroup: str) -> dict[str, int | str]:
    """Obey and reap until the command has ended and no descendant is left."""
    while True:
        ready, _, _ = select.select([CONTROL, ended], [], [])
        if CONTROL in ready:
            wish = _receive()
            if wish in (b"", b"K"):
                status = _kill_all(command, cgroup)
                return _describe(status) | _left()
            if wish == b"T":
                _signal_tree(signal.SIGTERM)
        if ended in ready:
            _drain(ended)
            status, children = _reap(command)
            if status is not None:
                if children:
                    _linger()
                    _kill_all(command, cgroup)
                return _describe(status) | _left()


def _receive() -> bytes:
    try:
        return os.read(CONTROL, 1)
    except ConnectionError:
        return b""


def _drain(ended: int) -> None:
    try:
        os.read(ended, 4096)
    except BlockingIOError:
        return


def _reap(command: int) -> tuple[int | None, bool]:
    """Reap whatever has ended; the command's wait status if it is among it, and whether anything still runs.

    Whoever has no child here has no descendant: what is orphaned becomes a child.
    """
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found, False
        if pid == 0:
            return found, True
        if pid == command:
            found = status


def _linger() -> None:
    until = time.monotonic() + LINGER
    while time.monotonic() < until and _reap(-1)[1]:
        time.sleep(0.01)


def _kill_all(command: int, cgroup: str) -> int | None:
    """SIGKILL until no child is left, or PATIENCE is over."""
    found, pause, until = None, FIRST_PAUSE, time.monotonic() + PATIENCE
    while True:
        _signal_tree(signal.SIGKILL)
        if cgroup:
            # The kernel asks nobody's permission here, not even where a program has another user's rights.
            _write(os.path.join(cgroup, "cgroup.kill"), "1")
        status, children = _reap(command)
        found = status if found is None else found
        if not children or time.monotonic() >= until:
            return found
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _left() -> dict[str, int | str]:
    left = _descendants() if _reap(-1)[1] else []
    return {"left": ",".join(map(str, left))} if left else {}


def _signal_tree(number: signal.Signals) -> None:
    for pid in _descendants():
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def _descendants() -> list[int]:
    """Every living descendant, youngest generations last."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            state, parent = _state_of(entry)
            if state not in (b"Z", b"X"):
                children.setdefault(parent, []).append(int(entry))
    found = list(children.get(os.getpid(), []))
    for pid in found:
        found += children.get(pid, [])
    return found


def _state_of(pid: str) -> tuple[bytes, int]:
    """A process's state and its parent; X, which is dead, if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            state, parent = stat.read().rpartition(b")")[2].split()[:2]
    except (OSError, ValueError):
        return b"X", 0
    return state, int(parent)


def _describe(status: int | None) -> dict[str, int | str]:
    if status is None:
        return {"signal": int(signal.SIGKILL)}
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    return {"exit": os.WEXITSTATUS(status)}


def run() -> None:
    """Do it, and be gone: the run's end waits for this process's own, and nothing is left to be put in order."""
    main()
    os._exit(0)


if __name__ == "__main__":
    run()
