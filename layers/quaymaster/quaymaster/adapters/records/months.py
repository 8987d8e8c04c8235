"""What a pool's tasks have taken, month by month, beside its count: attributes that an update adds to.

Short names, for the item is written with each task: `s2611` are the seconds of November 2026.
"""

import re
from collections.abc import Mapping

from quaymaster.adapters.records.items import Item
from quaymaster.adapters.records.values import number
from quaymaster.domain.cost import Month, Spent

_LETTERS = {"tasks": "t", "runs": "r", "seconds": "s", "spot_seconds": "p"}
_FIELDS = {letter: name for name, letter in _LETTERS.items()}
_ATTRIBUTE = re.compile(r"([trsp])(\d\d)(\d\d)")


def added(spent: Spent) -> dict[str, int]:
    """What an update adds for one task, by attribute."""
    return {name: value for name, value in _attributes(spent.month, Month().plus(spent)).items() if value}


def write_months(months: Mapping[str, Month]) -> Item:
    """As attributes of the item."""
    found = {name: value for month, taken in months.items() for name, value in _attributes(month, taken).items()}
    return {name: number(value) for name, value in found.items() if value}


def read_months(item: Item) -> dict[str, Month]:
    """From the attributes of the item."""
    found: dict[str, dict[str, int]] = {}
    for name, value in item.items():
        if told := _ATTRIBUTE.fullmatch(name):
            letter, year, month = told.groups()
            found.setdefault(f"20{year}-{month}", {})[_FIELDS[letter]] = int(value["N"])
    return {month: Month(**found[month]) for month in sorted(found)}


def _attributes(month: str, taken: Month) -> dict[str, int]:
    short = f"{month[2:4]}{month[5:7]}"
    return {f"{letter}{short}": getattr(taken, name) for name, letter in _LETTERS.items()}
