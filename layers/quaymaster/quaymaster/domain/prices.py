"""What Fargate lists for an hour of one vCPU and of one GB: by region, architecture, and on Spot.

The table is of `LISTED_ON`, for Linux; AWS's page is https://aws.amazon.com/fargate/pricing/. Who pays other prices, or
those of a region that is not here, says so by the parameter `FargatePrices`.
"""

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from quaymaster.errors import Refused

LISTED_ON = date(2026, 11, 27)
ARM_SHARE = 0.8
"""Graviton costs four fifths, in every region that lists it."""
SPOT_SHARE = 0.3
"""Spot moves with what is left over; AWS promises up to 70 % less, and mostly lists about that."""


class Architecture(StrEnum):
    """The processors that Fargate has."""

    X86_64 = "x86_64"
    ARM64 = "arm64"


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Dollars for an hour of one vCPU and of one GB."""

    vcpu_hour: float
    gb_hour: float

    def times(self, share: float) -> "Prices":
        """This part of them."""
        return Prices(vcpu_hour=self.vcpu_hour * share, gb_hour=self.gb_hour * share)


def _same(vcpu_hour: float, gb_hour: float, *regions: str) -> dict[str, Prices]:
    return dict.fromkeys(regions, Prices(vcpu_hour=vcpu_hour, gb_hour=gb_hour))


ON_DEMAND_X86: dict[str, Prices] = {
    **_same(0.04048, 0.004445, "us-east-1", "us-east-2", "us-west-2", "eu-west-1"),
    **_same(0.04256, 0.004655, "ap-south-1"),
    **_same(0.0445, 0.0049, "eu-north-1"),
    **_same(0.04456, 0.004865, "ca-central-1"),
    **_same(0.04656, 0.00511, "us-west-1", "eu-west-2", "eu-central-1", "ap-northeast-2"),
    **_same(0.04856, 0.00532, "ap-southeast-2"),
    **_same(0.0486, 0.0053, "eu-west-3", "eu-south-1", "us-gov-east-1", "us-gov-west-1"),
    **_same(0.05056, 0.00553, "ap-northeast-1", "ap-southeast-1"),
    **_same(0.0526, 0.0058, "me-south-1"),
    **_same(0.0546, 0.006, "af-south-1"),
    **_same(0.0556, 0.0061, "ap-east-1"),
    **_same(0.0696, 0.0076, "sa-east-1"),
}


@dataclass(frozen=True, kw_only=True)
class PriceList:
    """What a deployment's tasks cost; `spot` is given where somebody has said what it costs."""

    on_demand: Prices
    spot: Prices

    def of(self, *, spot: bool) -> Prices:
        """On Spot, or on demand."""
        return self.spot if spot else self.on_demand


ALLOWED = "nothing, or prices like vcpu-hour=0.04,gb-hour=0.0044[,spot-vcpu-hour=0.012,spot-gb-hour=0.0013]"
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_TOLD = re.compile(f"vcpu-hour={_NUMBER},gb-hour={_NUMBER}(?:,spot-vcpu-hour={_NUMBER},spot-gb-hour={_NUMBER})?")


def price_list(told: str, region: str, architecture: Architecture) -> PriceList | None:
    """The prices of the parameter, or, where that is empty, of the table; None for a region that it does not know.

    Raises Refused for a parameter that tells no prices.
    """
    if told:
        return _read(told)
    listed = ON_DEMAND_X86.get(region)
    if not listed:
        return None
    on_demand = listed if architecture is Architecture.X86_64 else listed.times(ARM_SHARE)
    return PriceList(on_demand=on_demand, spot=on_demand.times(SPOT_SHARE))


def _read(told: str) -> PriceList:
    found = _TOLD.fullmatch(told)
    if not found:
        raise Refused("FargatePrices", told, ALLOWED)
    on_demand = Prices(vcpu_hour=float(found[1]), gb_hour=float(found[2]))
    spot = Prices(vcpu_hour=float(found[3]), gb_hour=float(found[4])) if found[3] else on_demand.times(SPOT_SHARE)
    return PriceList(on_demand=on_demand, spot=spot)
