"""A process with another user's rights, which the agent's own user may not signal: bounded, told, and waited for.

Root prepares what is meant to be a host: a program with setuid root, a warden that runs as `nobody`, and a cgroup that
is delegated to it.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import psutil
import pytest
from quaymaster_worker.executor import Order
from quaymaster_worker.processes import warden
from quaymaster_worker.processes.cgroups import delegated, make_cgroup, remove_cgroup
from quaymaster_worker.processes.process_executor import encode, read_answer

from tests.shared.passage import let_others_pass

NOBODY = 65534
PATIENCE = 1.0
STAY = "import os, time; os.setuid(0); time.sleep(300)"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a program that has another user's rights")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that everybody can enter, with a warden of little patience and a program that has root's rights."""
    let_others_pass(tmp_path)
    source = Path(warden.__file__).read_text()
    assert "\nPATIENCE = 10.0\n" in source
    (tmp_path / "warden.py").write_text(source.replace("\nPATIENCE = 10.0\n", f"\nPATIENCE = {PATIENCE}\n"))
    # A setuid program can be signalled until it takes the rights for good, as sudo does: see kill(2).
    shutil.copy("/usr/bin/python3", tmp_path / "stay")
    (tmp_path / "stay").chmod(0o4755)
    return tmp_path


class Host:
    """A warden that runs as nobody, and its command."""

    def __init__(self, folder: Path, command: list[str], cgroup: Path | None = None) -> None:
        self.control, theirs = socket.socketpair()
        # Not the tests' own Python, which another user may not be able to reach.
        self.process = subprocess.Popen(
            ["/usr/bin/python3", "-I", "-S", str(folder / "warden.py")],
            stdin=theirs.fileno(), stdout=subprocess.DEVNULL, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/",
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self.control.settimeout(30)
        order = Order(command=command, environment={"PATH": os.defpath}, folder=Path("/"), cgroup=cgroup)
        self.control.sendall(encode(order) + b"G")
        self.answers = self.control.makefile("rb")
        self.command = int(read_answer(self.answers.readline())["started"])

    def end(self) -> Mapping[str, str]:
        """Have everything killed; what the warden says of it."""
        self.control.sendall(b"K")
        return read_answer(self.answers.readline())

    def close(self) -> None:
        """Kill the warden, if it still lives."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.answers.close()
        self.control.close()


def until_it_has_roots_rights(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            if process.uids().real == 0 and process.name() == "stay":
                return process
        time.sleep(0.02)
    raise AssertionError("it never began")


def test_what_cannot_be_signalled_is_named_after_a_while_and_costs_no_cpu(folder: Path) -> None:
    host = Host(folder, ["sh", "-c", f"sleep 300 & {folder}/stay -c '{STAY}' & exec {folder}/stay -c '{STAY}'"])
    try:
        stuck = until_it_has_roots_rights(host.command)
        began = time.monotonic()
        answer = host.end()
        assert time.monotonic() - began >= PATIENCE
        left = [int(pid) for pid in answer["left"].split(",")]
        assert stuck.pid in left
        assert {psutil.Process(pid).name() for pid in left} == {"stay"}, "the others were ended"
        assert answer["signal"] == str(int(signal.SIGKILL))
        _, status, used = os.wait4(host.process.pid, 0)
        host.process.returncode = os.waitstatus_to_exitcode(status)
        assert host.process.returncode == 0
        # A loop of 5 ms takes most of a second of it.
        assert used.ru_utime + used.ru_stime < PATIENCE / 2
    finally:
        for pid in [process.pid for process in psutil.process_iter() if process.name() == "stay"]:
            os.kill(pid, signal.SIGKILL)
        host.close()


@pytest.fixture
def cgroup(folder: Path) -> Generator[Path]:
    """A cgroup that nobody may make others in, as a host delegates one."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    (top,) = (Path(mount[4]) for mount in mounts if mount[mount.index("-") + 1] == "cgroup2")
    made = top / f"quaymaster-test-{os.getpid()}"
    made.mkdir()
    for path in (made, made / "cgroup.procs"):
        os.chown(path, NOBODY, NOBODY)
    try:
        yield made
    finally:
        made.rmdir()


def test_a_delegated_cgroup_ends_even_that(folder: Path, cgroup: Path) -> None:
    # The warden has to be in the delegated cgroup, as an agent's is.
    script = f"import os; open('{cgroup}/cgroup.procs', 'w').write('0'); os.setgid({NOBODY}); os.setuid({NOBODY})"
    script += "; import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    control, theirs = socket.socketpair()
    process = subprocess.Popen(
        ["/usr/bin/python3", "-c", script, str(folder / "warden.py")],
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
        cwd="/",
    )
    theirs.close()
    control.settimeout(30)
    own = make_cgroup(cgroup, "phase")
    assert own
    for path in (own, own / "cgroup.procs", own / "cgroup.kill"):
        os.chown(path, NOBODY, NOBODY)
    order = Order(command=[f"{folder}/stay", "-c", STAY], environment={}, folder=Path("/"), cgroup=own)
    with control, control.makefile("rb") as answers:
        control.sendall(encode(order) + b"G")
        until_it_has_roots_rights(int(read_answer(answers.readline())["started"]))
        control.sendall(b"K")
        assert read_answer(answers.readline()) == {"signal": str(int(signal.SIGKILL))}
    assert process.wait(30) == 0
    remove_cgroup(own)
    assert not own.exists()


def test_a_cgroup_is_used_only_where_it_is_delegated(cgroup: Path, tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    mountinfo = Path("/proc/self/mountinfo").read_text()
    (proc / "mountinfo").write_text(mountinfo)
    (proc / "cgroup").write_text(f"3:cpu:/elsewhere\n0::/{cgroup.name}\n")
    assert delegated(proc) == cgroup
    (proc / "cgroup").write_text("0::/not/there\n")
    assert delegated(proc) is None
    (proc / "cgroup").write_text("3:cpu:/\n")
    assert delegated(proc) is None
    assert make_cgroup(None, "x") is None
    assert make_cgroup(tmp_path, "plain folder") is None
