"""The lab that the suites of one module share: a real broker and store, and agents that end with their test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from quaymaster_local.settings import Settings

from tests.integration.agent_lab import Lab, open_lab


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, local_settings: Settings, logs: Path) -> Iterator[Lab]:
    """One lab for a module; its logs are kept."""
    folder = logs / request.path.stem
    folder.mkdir()
    with open_lab(local_settings, folder) as running:
        yield running


@pytest.fixture(autouse=True)
def lab_agents_end_with_their_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test started in the lab ends with it."""
    yield
    if "lab" in request.fixturenames:
        running: Lab = request.getfixturevalue("lab")
        running.end_agents()
