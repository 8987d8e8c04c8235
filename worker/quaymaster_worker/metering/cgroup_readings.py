"""Readings of cgroups, of both versions, and of processes where no cgroup is a phase's own.

Sources: the kernel's "Control Group v2" (cpu.stat, cpu.max, memory.current, memory.peak, memory.max) and, for version
1, its "CFS Bandwidth Control" and "Memory Resource Controller".
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from quaymaster_worker.metering.usage import Reading

NO_LIMIT = 1 << 60
"""Version 1 says "none" with a number larger than any memory."""
ROOT = Path("/sys/fs/cgroup")


def read_cgroup(cgroup: Path) -> Reading | None:
    """A cgroup of version 2 by its folder; None where it tells nothing of its memory or its CPU."""
    stat, memory = _pairs(cgroup / "cpu.stat"), _number(cgroup / "memory.current")
    if "usage_usec" not in stat or memory is None:
        return None
    quota, _, period = _text(cgroup / "cpu.max").partition(" ")
    return Reading(
        cpu_seconds=stat["usage_usec"] / 1e6,
        throttled_seconds=stat.get("throttled_usec", 0) / 1e6,
        memory_bytes=memory - _pairs(cgroup / "memory.stat").get("inactive_file", 0),
        memory_peak_bytes=_number(cgroup / "memory.peak") or 0,
        cpus=int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None,
        memory_limit_bytes=_number(cgroup / "memory.max"),
    )


def read_own_cgroup(root: Path = ROOT) -> Reading | None:
    """The cgroup of this process, which in a container is the root of what it sees, of either version."""
    if found := read_cgroup(root):
        return found
    nanoseconds, memory = _number(root / "cpuacct/cpuacct.usage"), _number(root / "memory/memory.usage_in_bytes")
    if nanoseconds is None or memory is None:
        return None
    quota, period = _number(root / "cpu/cpu.cfs_quota_us"), _number(root / "cpu/cpu.cfs_period_us")
    limit = _number(root / "memory/memory.limit_in_bytes")
    return Reading(
        cpu_seconds=nanoseconds / 1e9,
        throttled_seconds=_pairs(root / "cpu/cpu.stat").get("throttled_time", 0) / 1e9,
        memory_bytes=memory - _pairs(root / "memory/memory.stat").get("total_inactive_file", 0),
        memory_peak_bytes=_number(root / "memory/memory.max_usage_in_bytes") or 0,
        cpus=quota / period if quota and period and quota > 0 else None,
        memory_limit_bytes=limit if limit and limit < NO_LIMIT else None,
    )


def read_processes(pids: Sequence[int]) -> Reading | None:
    """A process and all below it: what they hold, and what they and those that have ended have used."""
    seconds, memory, found = 0.0, 0, False
    with suppress(psutil.Error):
        root = psutil.Process(pids[0])
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                seconds += times.user + times.system + times.children_user + times.children_system
                memory += process.memory_info().rss
                found = True
    return Reading(cpu_seconds=seconds, memory_bytes=memory) if found else None


def since(first: Reading, now: Reading) -> Reading:
    """A reading of a cgroup that had a life before: only what was counted since."""
    return Reading(
        cpu_seconds=now.cpu_seconds - first.cpu_seconds,
        throttled_seconds=now.throttled_seconds - first.throttled_seconds,
        memory_bytes=now.memory_bytes,
        cpus=now.cpus,
        memory_limit_bytes=now.memory_limit_bytes,
    )


def _text(file: Path) -> str:
    with suppress(OSError):
        return file.read_text().strip()
    return ""


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.lstrip("-").isdecimal() else None


def _pairs(file: Path) -> dict[str, int]:
    lines = (line.split() for line in _text(file).splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal()}
