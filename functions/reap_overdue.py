"""Every minute: what is overdue is judged, and every pool is swept."""

from typing import Any

from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.reaping import tick
from longshore.wiring import logged, ports, time_left

PORTS = ports()
POOLS = Pools(PORTS.store, PORTS.clock)


@logged
def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """A tick of the schedule in; how much was looked at out."""
    return tick(PORTS, POOLS, time_left(context))
