"""One tick of the reaper: what is due, then every pool, each within its share of the function's life.

The clients give up a call after `WORST_CALL`. Whatever is begun before a share is over has so ended before the function
is; what was not begun is not done, and is the first of a later tick.
"""

from datetime import timedelta

from quaymaster.dispatcher.lifetime import WORST_CALL, usable
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.reaper.due import reap
from quaymaster.dispatcher.reaper.sweep import sweep
from quaymaster.ports import Ports

BUDGET = timedelta(seconds=45)
"""A tick ends before the next one begins."""
DUE_SHARE = 0.5
"""Of the time, for what is due: a call that is begun at its end leaves the pools theirs."""


def tick(ports: Ports, pools: Pools, left: timedelta) -> dict[str, int]:
    """How much was looked at. `left` is the rest of the function's life."""
    start = ports.clock()
    budget = usable(min(BUDGET + WORST_CALL, left))
    reaped = reap(ports, pools, start + budget * DUE_SHARE)
    swept = sweep(ports, pools, start + budget)
    return {"due": reaped.due, "failed": reaped.failed, "pools": swept}
