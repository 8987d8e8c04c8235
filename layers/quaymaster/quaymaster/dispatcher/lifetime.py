"""How long a function may still begin something. What it has not begun is not done, and said so; nothing dies of it."""

from datetime import datetime, timedelta

from quaymaster.errors import Unavailable
from quaymaster.ports import Ports

WORST_CALL = timedelta(seconds=13)
"""The longest that one call of a cloud service takes, tries and waits and all; see `adapters/aws/clients.py`."""


def usable(left: timedelta) -> timedelta:
    """How long something may be begun in the rest of a function's life: no call that it makes then outlives that."""
    return max(timedelta(), left - WORST_CALL - timedelta(seconds=1))


def in_time(ports: Ports, until: datetime) -> None:
    """Raises Unavailable when it is too late to begin something: it is done by a function that has time."""
    if ports.clock() >= until:
        raise Unavailable("function", "no time is left for it")
