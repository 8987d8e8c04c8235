"""The histories that every pipeline plays, once for all tests that look at them."""

import pytest

from tests.simulation.batch import Played, play_all

SEEDS = 1000


@pytest.fixture(scope="session")
def played() -> Played:
    """A thousand histories."""
    return play_all(0, SEEDS)
