"""A defect on purpose: one clause of the shipped code taken out, and the invariants that must notice."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.simulation.violation import Invariant

type Patch = pytest.MonkeyPatch


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A defect: what it leaves out, how it is made, and which invariants may be the first to notice."""

    name: str
    make: Callable[[Patch], None]
    caught_by: frozenset[Invariant]


MUTATIONS: list[Mutation] = []


def mutation(*caught_by: Invariant) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add a defect to the list; its name is the function's."""
    # A handler that fails is no invariant of the design: it does not count as noticing.
    assert Invariant.HANDLED not in caught_by

    def add(make: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTATIONS.append(Mutation(name=make.__name__.replace("_", " "), make=make, caught_by=frozenset(caught_by)))
        return make

    return add


# What is put in the place of what is left out.


def nothing(*_: Any) -> None:
    """Do nothing."""


def never(*_: Any) -> bool:
    """No."""
    return False


def always(*_: Any) -> bool:
    """Yes."""
    return True


def nobody(*_: Any) -> str:
    """An id that nothing has."""
    return "nobody"


def never_due(*_: Any) -> datetime:
    """A deadline that nobody lives to see."""
    return datetime.max.replace(tzinfo=UTC) - timedelta(days=999)
