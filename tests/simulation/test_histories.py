"""A thousand histories by chance; `make simulate SEEDS=10000` plays more."""

import pytest
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.states import Reason

from tests.simulation.batch import Played
from tests.simulation.callsites import call_sites
from tests.simulation.history import History
from tests.simulation.shrink import broken_by, shrink, told

OWN = {None, Reason.EXIT_CODE, Reason.RUN_TIMEOUT, Reason.LOG_TIMEOUT, Reason.CONFIRMATION_EXPIRED}

pytestmark = pytest.mark.timeout(1800)


def test_whatever_happens_the_invariants_hold_and_everything_ends(played: Played):
    if not played.failures:
        return
    first = played.failures[0]
    history = told(first.seed, shrink(first.seed, first.invariant)) if first.invariant else ""
    seeds = "\n".join(f"seed {failure.seed}: {failure.what}" for failure in played.failures)
    raise AssertionError(f"{seeds}\n{history}")


def test_a_function_dies_before_and_after_every_single_call_of_the_store_and_of_the_cloud(played: Played):
    assert len(call_sites()) > 80
    assert played.coverage.missing() == []


def test_the_same_seed_is_the_same_history():
    assert broken_by(7)[1] == broken_by(7)[1]


@pytest.mark.parametrize("kind", PoolKind)
@pytest.mark.parametrize("real", [False, True])
def test_without_faults_no_run_ends_for_a_reason_that_is_not_its_own(kind: PoolKind, real: bool):
    reasons: list[Reason | None] = []
    for seed in range(5):
        history = History(seed, kind=kind, real=real, rate=0.0)
        history.play()
        runs = [history.world.table.run(run_id) for run_id in history.stage.acknowledged]
        reasons += [run.reason for run in runs if run]
    # What lay in the table at the start has reasons of its own, and is not among these.
    assert len(reasons) >= 20
    assert set(reasons) <= OWN
