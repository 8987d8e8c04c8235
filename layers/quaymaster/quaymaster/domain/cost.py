"""What runs and pools cost as Fargate tasks: seconds times size times price."""

from dataclasses import dataclass
from datetime import datetime

from quaymaster.domain.prices import PriceList

LEAST_SECONDS = 60
"""Fargate bills each task for a minute at least, from the pull of its image to its end."""
CALLS_OF_A_RUN = 47
"""AWS calls that the control plane makes for a run with a task of its own: the benchmark counts them."""


@dataclass(frozen=True, kw_only=True)
class TaskSize:
    """A task's size in CPU units (1024 are a vCPU) and MiB."""

    cpu: int = 2048
    memory: int = 4096


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one task has taken: billed seconds, and the runs that it ended."""

    month: str
    seconds: int
    spot: bool
    runs: int


@dataclass(frozen=True, kw_only=True)
class Month:
    """What a pool's tasks have taken that stopped in a month; `spot_seconds` are not among `seconds`."""

    tasks: int = 0
    runs: int = 0
    seconds: int = 0
    spot_seconds: int = 0

    def plus(self, spent: Spent) -> "Month":
        """With one task more."""
        return Month(
            tasks=self.tasks + 1,
            runs=self.runs + spent.runs,
            seconds=self.seconds + (0 if spent.spot else spent.seconds),
            spot_seconds=self.spot_seconds + (spent.seconds if spent.spot else 0),
        )


def month_of(at: datetime) -> str:
    """`2026-11`."""
    return f"{at:%Y-%m}"


def cost_of(seconds: float, spot_seconds: float, size: TaskSize, prices: PriceList) -> float:
    """Dollars for so many seconds of a task of that size on demand, and so many on Spot."""
    return sum(
        taken / 3600 * (size.cpu / 1024 * price.vcpu_hour + size.memory / 1024 * price.gb_hour)
        for taken, price in ((seconds, prices.on_demand), (spot_seconds, prices.spot))
    )
