"""The deployment that the stories share; each story makes its own pool."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from quaymaster_local.cloud import LocalCloud

from tests.shared.deployed.client import Deployment


@pytest.fixture(scope="session")
def deployment(cloud: LocalCloud) -> Iterator[Deployment]:
    """The deployed system on the local cloud."""
    with closing(Deployment(cloud)) as running:
        yield running


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that commands of any user may write to; pytest's own temporary folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="quaymaster-e2e-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)
