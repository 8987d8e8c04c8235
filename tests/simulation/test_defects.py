"""The histories are worth something: they notice defects, each by an invariant that has a name."""

import pytest

from tests.simulation.defects import MUTATIONS
from tests.simulation.hunt import hunt_all, read_noticed, report

pytestmark = pytest.mark.timeout(1800)


def test_every_defect_of_the_list_is_caught_by_an_invariant_that_it_names():
    assert len(MUTATIONS) >= 15
    hunted = hunt_all(noticed=read_noticed())
    assert all(one.invariant for one in hunted), report(hunted)
