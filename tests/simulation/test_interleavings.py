"""Claims and fences at small scope: not some histories, but all of them."""

from types import ModuleType

import pytest
from quaymaster.dispatcher.requests import submit
from quaymaster.dispatcher.workers import finish, register

from tests.simulation import scenes
from tests.simulation.defects.mutation import nothing
from tests.simulation.interleavings import Scene, explore
from tests.simulation.violation import Invariant, Violation


@pytest.mark.parametrize("scene", scenes.SCENES, ids=lambda scene: scene.__name__)
def test_in_every_interleaving_with_a_death_anywhere_no_invariant_breaks(scene: Scene):
    explored = explore(scene, deaths=1)
    assert explored.states > 200
    print(f"{explored.schedules} schedules, {explored.states} states")


@pytest.mark.parametrize(
    ("module", "scene"),
    [
        (submit, scenes.a_request_meets_a_worker_that_registers),
        (register, scenes.a_request_meets_a_worker_that_registers),
        (finish, scenes.a_request_meets_a_worker_that_finishes),
    ],
)
def test_who_leaves_a_ticket_or_a_marker_must_read_the_other_side_again(
    module: ModuleType, scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "match", nothing)
    with pytest.raises(Violation) as caught:
        explore(scene, deaths=0)
    assert caught.value.invariant is Invariant.NO_LOST_WAKE_UP
