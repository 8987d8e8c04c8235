"""Defects on purpose, each of which the histories must catch by a named invariant."""

from tests.simulation.defects import beginnings, ends, fences, ordering, phases, steering, tasks, workers
from tests.simulation.defects.mutation import MUTATIONS, Mutation

__all__ = [
    "MUTATIONS",
    "Mutation",
    "beginnings",
    "ends",
    "fences",
    "ordering",
    "phases",
    "steering",
    "tasks",
    "workers",
]
