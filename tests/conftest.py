"""Fixtures every suite may use: the local cloud, started once for the session when the first test asks for it.

A missing tool is an error, never a skip: a green run means that these tests ran.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from longshore_local.cloud import LocalCloud
from longshore_local.settings import Settings, load_settings

REPOSITORY = Path(__file__).resolve().parents[1]
LOGS = REPOSITORY / "build" / "local-cloud"
KEPT_SESSIONS = 4


def pytest_configure() -> None:
    """Ctrl-C works in what the tests start: a shell that put us into the background has had it ignored for all."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses the local cloud, so that `-m "not local"` leaves all of them out."""
    for item in items:
        if {"cloud", "services"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.local)


@pytest.fixture(scope="session")
def local_settings() -> Settings:
    """The paths of this checkout and its tools."""
    return load_settings(source=REPOSITORY)


@pytest.fixture(scope="session")
def cloud(local_settings: Settings) -> Iterator[LocalCloud]:
    """The deployed system on this machine; the logs of the last few sessions stay under `build/local-cloud`."""
    for old in sorted(LOGS.glob("*"))[:-KEPT_SESSIONS]:
        shutil.rmtree(old, ignore_errors=True)
    logs = LOGS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
    with LocalCloud(settings=local_settings, logs=logs) as running:
        yield running
