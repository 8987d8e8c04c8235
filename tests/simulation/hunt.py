"""Histories of a defective system, until one of the invariants that must notice does."""

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pytest

from tests.simulation.defects import MUTATIONS, Mutation
from tests.simulation.history import History
from tests.simulation.violation import Invariant, Violation

PATIENCE = 300
"""So many histories may pass before a defect counts as unnoticed."""


@dataclass(frozen=True, kw_only=True)
class Hunted:
    """What came of a hunt: the history that noticed, and how; no seed if none did."""

    name: str
    histories: int
    seed: int | None = None
    invariant: Invariant | None = None
    what: str = ""

    def __str__(self) -> str:
        if self.invariant is None:
            return f"NOT CAUGHT in {self.histories} histories: {self.name}"
        where = f"after {self.histories} histories (seed {self.seed})"
        return f"{self.name}\n    {where}: [{self.invariant}] {self.what[:150]}"


def hunt(mutation: Mutation, first: int = 0, patience: int = PATIENCE) -> Hunted:
    """Play histories of the defective system. Only a violation of an invariant that the defect names counts."""
    with pytest.MonkeyPatch.context() as patch:
        mutation.make(patch)
        for played, seed in enumerate(range(first, first + patience), start=1):
            found = _noticed(mutation, seed)
            if found:
                what = str(found).partition("] ")[2]
                return Hunted(name=mutation.name, histories=played, seed=seed, invariant=found.invariant, what=what)
    return Hunted(name=mutation.name, histories=patience)


def _noticed(mutation: Mutation, seed: int) -> Violation | None:
    try:
        History(seed).play()
    except Violation as violation:
        return violation if violation.invariant in mutation.caught_by else None
    except Exception:
        # A defect may break anything; an error is no proof that an invariant watches.
        return None
    return None


def hunt_all(first: int = 0, patience: int = PATIENCE, processes: int | None = None) -> list[Hunted]:
    """Hunt every defect of the list."""
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count() or 1) as pool:
        return list(pool.imap(partial(_hunt_one, first, patience), range(len(MUTATIONS)), chunksize=1))


def _hunt_one(first: int, patience: int, number: int) -> Hunted:
    return hunt(MUTATIONS[number], first, patience)


def report(hunted: Sequence[Hunted]) -> str:
    """Each defect with what noticed it."""
    caught = sum(one.invariant is not None for one in hunted)
    return "\n".join([*map(str, hunted), f"{caught} of {len(hunted)} defects caught, each by a named invariant"])
