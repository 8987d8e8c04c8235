"""Many histories by chance; one that fails prints what happened in it."""

import pytest
from longshore.domain.pool import PoolKind

from tests.unit.dispatcher.simulation import Simulation

BATCH = 25


def play(simulation: Simulation, steps: int) -> None:
    try:
        simulation.play(steps)
    except AssertionError as error:
        history = "\n".join(simulation.trace[-150:])
        raise AssertionError(f"seed {simulation.seed}: {error}\n{history}") from error


@pytest.mark.parametrize("batch", range(6))
def test_whatever_happens_to_a_private_pool_the_invariants_hold_and_everything_ends(batch: int):
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        play(Simulation(seed=seed), steps=150)


@pytest.mark.parametrize("batch", range(4))
def test_whatever_happens_to_a_fargate_pool_the_invariants_hold_and_everything_ends(batch: int):
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        play(Simulation(seed=seed, kind=PoolKind.FARGATE), steps=150)


def test_without_faults_every_run_ends_as_its_command_did():
    for seed in range(10):
        simulation = Simulation(seed=seed, faults=0)
        play(simulation, steps=150)
        assert all(run.attempt == 1 for run in map(simulation.world.run, simulation.accepted))
