"""Every minute: what is overdue is judged, and every pool is swept."""

from datetime import timedelta
from typing import Any

from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.reap import reap
from longshore.dispatcher.sweep import sweep
from longshore.wiring import logged, ports

PORTS = ports()
POOLS = Pools(PORTS.store, PORTS.clock)
BUDGET = timedelta(seconds=40)
"""A sweep ends before the next one starts; what it did not reach comes first in a later one."""
DUE_BUDGET = timedelta(seconds=25)
"""The share of what is due, so that logs that take long leave time to every pool."""


@logged
def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """A tick of the schedule in; how much was looked at out."""
    start = PORTS.clock()
    reaped = reap(PORTS, POOLS, start + DUE_BUDGET)
    swept = sweep(PORTS, POOLS, start + BUDGET)
    return {"due": reaped.due, "failed": reaped.failed, "pools": swept}
