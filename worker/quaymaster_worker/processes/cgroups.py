"""A cgroup (version 2) of its own for each phase of an agent that is not root, where the host delegates one.

By `cgroup.kill` the kernel ends every process in it, also one with another user's rights, which the agent's own user
may not signal. Source: the kernel's "Control Group v2", "Delegation" and "cgroup.kill".
"""

import os
from contextlib import suppress
from pathlib import Path


def delegated(proc: Path = Path("/proc/self")) -> Path | None:
    """The cgroup that this process is in, if it may make others below it."""
    with suppress(OSError, StopIteration):
        lines = (proc / "cgroup").read_text().splitlines()
        inside = next(line[3:] for line in lines if line.startswith("0::"))
        mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
        # mountinfo: id, parent, device, root, mount point, options, optional fields, "-", type, source, …
        root, point = next((m[3], m[4]) for m in mounts if m[m.index("-") + 1] == "cgroup2")
        own = Path(point) / os.path.relpath(inside, root)
        if os.access(own, os.W_OK) and os.access(own / "cgroup.procs", os.W_OK):
            return own
    return None


def make_cgroup(parent: Path | None, name: str) -> Path | None:
    """An empty cgroup; None where that does not work, and processes are killed one by one."""
    if parent is None:
        return None
    made = parent / name
    with suppress(OSError):
        made.mkdir(exist_ok=True)
        return made if (made / "cgroup.kill").exists() else None
    return None


def remove_cgroup(cgroup: Path | None) -> None:
    """Remove one that is empty; one with processes that could not be ended stays."""
    if cgroup:
        with suppress(OSError):
            cgroup.rmdir()
