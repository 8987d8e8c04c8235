"""Histories of a defective system, until one of the invariants that must notice does.

The seed that noticed a defect last is known from `noticed.json` and played first, so that a pipeline's hunts are short.
A change of the code or of the simulation makes other histories of the seeds: then the hunt goes on with all of them,
and `make defects`, which hunts without that knowledge, writes the file anew.
"""

import json
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.simulation.batch import leave_the_past_to_itself
from tests.simulation.defects import MUTATIONS, Mutation
from tests.simulation.history import History
from tests.simulation.violation import Invariant, Violation

PATIENCE = 300
"""So many histories may pass before a defect counts as unnoticed."""
FEW = 4
"""A defect that so many histories notice is not worth remembering."""
NOTICED = Path(__file__).with_name("noticed.json")
"""For each defect that the first histories do not notice, the seed that did."""


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


def hunt(mutation: Mutation, seeds: Sequence[int] = range(PATIENCE)) -> Hunted:
    """Play histories of the defective system. Only a violation of an invariant that the defect names counts."""
    with pytest.MonkeyPatch.context() as patch:
        mutation.make(patch)
        for played, seed in enumerate(seeds, start=1):
            found = _noticed(mutation, seed)
            if found:
                what = str(found).partition("] ")[2]
                return Hunted(name=mutation.name, histories=played, seed=seed, invariant=found.invariant, what=what)
    return Hunted(name=mutation.name, histories=len(seeds))


def _noticed(mutation: Mutation, seed: int) -> Violation | None:
    try:
        History(seed).play()
    except Violation as violation:
        return violation if violation.invariant in mutation.caught_by else None
    except Exception:
        # A defect may break anything; an error is no proof that an invariant watches.
        return None
    return None


def hunt_all(*, noticed: dict[str, int] | None = None) -> list[Hunted]:
    """Hunt every defect of the list; the seed that `noticed` names for it is played first."""
    hunt_numbered = partial(_hunt_one, noticed or {})
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), leave_the_past_to_itself) as pool:
        return list(pool.imap(hunt_numbered, range(len(MUTATIONS)), chunksize=1))


def _hunt_one(noticed: dict[str, int], number: int) -> Hunted:
    mutation = MUTATIONS[number]
    known = [noticed[mutation.name]] if mutation.name in noticed else []
    return hunt(mutation, [*known, *range(PATIENCE)])


def read_noticed() -> dict[str, int]:
    """Which seed noticed which defect, as `noticed.json` has it."""
    return json.loads(NOTICED.read_text())


def write_noticed(hunted: Sequence[Hunted]) -> None:
    """Keep which seed noticed which defect, where that took more than a few histories."""
    found = {one.name: one.seed for one in hunted if one.seed is not None and one.histories > FEW}
    NOTICED.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")


def report(hunted: Sequence[Hunted]) -> str:
    """Each defect with what noticed it."""
    caught = sum(one.invariant is not None for one in hunted)
    return "\n".join([*map(str, hunted), f"{caught} of {len(hunted)} defects caught, each by a named invariant"])
