"""What a run has cost as a Fargate task: seconds times size, by a table of prices that the deployment sets."""

import re
from dataclasses import dataclass

from quaymaster.errors import Refused

_TABLE = re.compile(r"vcpu-hour=([0-9]+(?:\.[0-9]+)?),gb-hour=([0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Dollars for an hour of one vCPU and of one GB; as listed for Linux on x86-64, on demand, in us-east-1."""

    vcpu_hour: float = 0.04048
    gb_hour: float = 0.004445


@dataclass(frozen=True, kw_only=True)
class TaskSize:
    """A task's size in CPU units (1024 are a vCPU) and MiB."""

    cpu: int = 2048
    memory: int = 4096


def read_prices(text: str) -> Prices:
    """Prices as a parameter tells them, like "vcpu-hour=0.04048,gb-hour=0.004445". Raises Refused."""
    found = _TABLE.fullmatch(text)
    if not found:
        raise Refused("FargatePrices", text, "prices like vcpu-hour=0.04048,gb-hour=0.004445")
    return Prices(vcpu_hour=float(found[1]), gb_hour=float(found[2]))


def cost_of(seconds: float, size: TaskSize, prices: Prices) -> float:
    """Dollars for so many seconds of a task of that size."""
    return seconds / 3600 * (size.cpu / 1024 * prices.vcpu_hour + size.memory / 1024 * prices.gb_hour)
