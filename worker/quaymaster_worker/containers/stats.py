"""What an engine tells of a container's cgroup, as a reading; of both versions, by the Docker Engine's API, "stats"."""

from collections.abc import Mapping
from typing import Any

from quaymaster_worker.metering.cgroup_readings import NO_LIMIT
from quaymaster_worker.metering.usage import Reading


def read_stats(stats: Mapping[str, Any], cpus: float | None) -> Reading | None:
    """`cpus`: what the container may use, which the engine does not tell. None for one that does not run."""
    cpu: Mapping[str, Any] = stats.get("cpu_stats") or {}
    memory: Mapping[str, Any] = stats.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    parts: Mapping[str, int] = memory.get("stats") or {}
    throttling: Mapping[str, int] = cpu.get("throttling_data") or {}
    cache = parts.get("inactive_file") or parts.get("total_inactive_file", 0)
    limit = int(memory.get("limit", 0))
    return Reading(
        cpu_seconds=cpu["cpu_usage"]["total_usage"] / 1e9,
        throttled_seconds=throttling.get("throttled_time", 0) / 1e9,
        memory_bytes=max(0, int(memory["usage"]) - cache),
        memory_peak_bytes=int(memory.get("max_usage", 0)),
        cpus=cpus,
        memory_limit_bytes=limit if 0 < limit < NO_LIMIT else None,
    )
