"""Every minute: what is overdue is judged, and every pool is swept."""

from typing import Any

from quaymaster import cold_start
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.reaper.tick import tick
from quaymaster.wiring import logged, ports, time_left

PORTS = ports()
POOLS = Pools(PORTS.store, PORTS.clock)


@logged
def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """A tick of the schedule in; how much was looked at out."""
    return tick(PORTS, POOLS, time_left(context))


cold_start.over()
