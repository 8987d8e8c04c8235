"""Whether the kernel has killed something of ours for lack of memory."""

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def count_oom_kills(proc_cgroup: Path = Path("/proc/self/cgroup"), root: Path = _ROOT) -> int | None:
    """OOM kills in this process's cgroup so far; None where the system does not tell."""
    try:
        lines = proc_cgroup.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found = _read(root / path.lstrip("/") / "memory.events") or _read(root / "memory.events")
        elif "memory" in controllers.split(","):
            v1 = root / "memory"
            found = _read(v1 / path.lstrip("/") / "memory.oom_control") or _read(v1 / "memory.oom_control")
        else:
            continue
        if found is not None:
            return found.get("oom_kill")
    return None


def _read(path: Path) -> dict[str, int] | None:
    try:
        pairs = [line.split() for line in path.read_text().splitlines()]
        return {name: int(value) for name, value in pairs}
    except (OSError, ValueError):
        return None
