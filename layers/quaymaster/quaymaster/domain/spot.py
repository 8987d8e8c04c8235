"""Fargate Spot, which costs a third and may be taken away: which tasks are started on it, and what a drought does.

A call that Spot does not serve says nothing against the pool: it is told beside the pool's trouble, and stops no other
start.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from quaymaster.domain.trouble import FORGOTTEN, LONGEST_PAUSE, SAID, pause


class Capacity(StrEnum):
    """Where tasks are started. `spot` waits for Spot however long it has none, `spot_then_on_demand` for so long."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    SPOT_THEN_ON_DEMAND = "spot_then_on_demand"


class Start(StrEnum):
    """What a place of a pool gets now."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    WAIT = "wait"


@dataclass(frozen=True, kw_only=True)
class Drought:
    """Spot had nothing to give, `times` in a row from `since` to `last_at`; it is asked again at `retry_at`."""

    note: str
    times: int
    since: datetime
    last_at: datetime
    retry_at: datetime


def start_now(capacity: Capacity, drought: Drought | None, patience: timedelta, now: datetime) -> Start:
    """Where a task that is wanted now is started, if it is."""
    if capacity is Capacity.ON_DEMAND:
        return Start.ON_DEMAND
    if not drought or now >= drought.retry_at:
        return Start.SPOT
    if capacity is Capacity.SPOT_THEN_ON_DEMAND and now >= drought.since + patience:
        return Start.ON_DEMAND
    return Start.WAIT


def longer(before: Drought | None, note: str, patience: timedelta | None, now: datetime, randomness: bytes) -> Drought:
    """The drought with one more call that Spot did not serve. `patience`: None where some run waits for as long as it
    lasts.

    While runs wait, Spot is asked again soon, then more and more rarely; else it is left alone for a while.
    """
    same = before and now - before.last_at < FORGOTTEN
    times, since = (before.times + 1, before.since) if before and same else (1, now)
    waited_for = patience is None or now < since + patience
    again = pause(times + 1, randomness) if waited_for else LONGEST_PAUSE
    return Drought(note=note[:SAID], times=times, since=since, last_at=now, retry_at=now + again)
