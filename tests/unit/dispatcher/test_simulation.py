"""Many histories by chance; one that fails prints what happened in it."""

import pytest
from longshore.domain.pool import PoolKind
from longshore.domain.states import Reason

from tests.unit.dispatcher.simulation import Simulation

BATCH = 25


def play(simulation: Simulation, steps: int) -> None:
    try:
        simulation.play(steps)
    except AssertionError as error:
        history = "\n".join(simulation.trace[-150:])
        raise AssertionError(f"seed {simulation.seed}: {error}\n{history}") from error


@pytest.mark.parametrize("batch", range(4))
def test_whatever_happens_to_a_private_pool_the_invariants_hold_and_everything_ends(batch: int):
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        play(Simulation(seed=seed), steps=150)


@pytest.mark.parametrize("batch", range(4))
def test_whatever_happens_to_a_fargate_pool_the_invariants_hold_and_everything_ends(batch: int):
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        play(Simulation(seed=seed, kind=PoolKind.FARGATE), steps=150)


@pytest.mark.parametrize("kind", PoolKind)
def test_the_agent_s_own_state_machine_gets_on_with_the_control_plane_whatever_happens(kind: PoolKind):
    for seed in range(1000, 1000 + BATCH * 2):
        play(Simulation(seed=seed, kind=kind, real=True), steps=150)


def test_without_faults_no_run_ends_for_a_reason_that_is_not_its_own():
    own = {None, Reason.EXIT_CODE, Reason.RUN_TIMEOUT, Reason.LOG_TIMEOUT}
    for seed in range(10):
        simulation = Simulation(seed=seed, faults=0)
        play(simulation, steps=150)
        assert {simulation.world.run(name).reason for name in simulation.accepted} <= own
