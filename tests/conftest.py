"""Fixtures every suite may use: the local cloud, started once for the session when the first test asks for it.

A missing tool is an error, never a skip: a green run means that these tests ran.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from quaymaster_local.cloud import LocalCloud
from quaymaster_local.settings import Settings, load_settings

from tests.shared.deployed.engine import Engine, running_engine
from tests.strict import hook

REPOSITORY = Path(__file__).resolve().parents[1]
LOGS = REPOSITORY / "build" / "logs"
KEPT_SESSIONS = 4
STRICT = "strict"
SHOWN_LINES = 12
"""So many last lines of each log are shown where a test fails."""
LOGS_OF_RUN = pytest.StashKey[Path]()
BEGAN = pytest.StashKey[float]()
TOLD = pytest.StashKey[list[str]]()
PROBLEMS = "problems"
SLOW = "on the local cloud"
CONTRACTS = "the contracts"
IN_CONTAINERS = "in containers"
ON_THE_CLOUD = (
    "tests/contract/test_dynamodb.py",
    "tests/contract/test_store.py",
    "tests/e2e/",
    "tests/integration/",
)
BY_THEMSELVES = frozenset(
    f"tests/integration/test_{name}.py"
    for name in (
        "agent_outages",
        "agent_session",
        "built_layer",
        "local_cloud_ecs",
        "outages_of_every_kind",
        "wheels",
    )
)
"""Those of these suites that start services of their own, or none."""
WITH_AN_ENGINE = (
    "tests/contract/test_containers.py",
    *(f"tests/e2e/test_{name}.py" for name in ("containers", "provider_cache", "registries", "worker_image")),
)
"""They share a container engine, and have a cloud of their own, where tests are shared out: else the others take
longest."""


# An example takes as long as the machine is busy: nothing is wrong with the code for that.
hypothesis_settings.register_profile("suites", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("suites")


def pytest_configure() -> None:
    """Ctrl-C works in what the tests start: a shell that put us into the background has had it ignored for all."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark every test that uses the local cloud, so that `-m "not local"` leaves all of them out.

    Where the tests are shared out, those of the slow suites begin first.
    """
    for item in items:
        if {"cloud", "services"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.local)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (part_of(item.nodeid) != SLOW, not takes_long(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How tests are shared out among processes (pytest-xdist)."""
    # Only where that is asked for.
    from xdist.scheduler import LoadScopeScheduling  # pyright: ignore[reportMissingTypeStubs]

    class InParts(LoadScopeScheduling):
        """What uses the local cloud is one part, and shares it; so are the contracts; of all else, each file is one."""

        def _split_scope(self, nodeid: str) -> str:
            return part_of(nodeid)

    return InParts(config, log)


def part_of(nodeid: str) -> str:
    """The tests that go to one process together."""
    file = nodeid.partition("::")[0]
    if file in WITH_AN_ENGINE:
        return IN_CONTAINERS
    if file.startswith(ON_THE_CLOUD) and file not in BY_THEMSELVES:
        return SLOW
    return CONTRACTS if file.startswith("tests/contract/") else file


def takes_long(nodeid: str) -> bool:
    """Whether a part that does not share the cloud should begin early all the same."""
    file = nodeid.partition("::")[0]
    return file in {*BY_THEMSELVES, *WITH_AN_ENGINE} or file.startswith(("tests/contract/", "tests/simulation/"))


@pytest.fixture(scope="session")
def local_settings(logs: Path) -> Settings:
    """The paths of this checkout and its tools; functions are watched by the gate."""
    return replace(load_settings(source=REPOSITORY), function_path=logs / STRICT)


@pytest.fixture(scope="session")
def logs(pytestconfig: pytest.Config) -> Path:
    """Where the logs of what this session starts are kept; those of the last few sessions stay beside it."""
    for old in sorted(LOGS.glob("*"))[:-KEPT_SESSIONS]:
        shutil.rmtree(old, ignore_errors=True)
    folder = LOGS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
    folder.mkdir(parents=True)
    pytestconfig.stash[LOGS_OF_RUN] = folder
    return folder


@pytest.fixture(scope="session")
def cloud(local_settings: Settings, logs: Path) -> Iterator[LocalCloud]:
    """The deployed system on this machine."""
    with LocalCloud(settings=local_settings, logs=logs / "cloud") as running:
        yield running


@pytest.fixture(scope="session")
def container_engine(logs: Path) -> Iterator[Engine]:
    """An engine of this session's own, with the base of images in it."""
    with running_engine(logs / "engine") as running:
        yield running


@pytest.fixture(autouse=True)
def agents_end_with_their_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test started on the local cloud ends with it; agents of wider fixtures are there before, and stay."""
    if "cloud" not in request.fixturenames:
        yield
        return
    running: LocalCloud = request.getfixturevalue("cloud")
    with running.ending_agents():
        yield


@pytest.fixture(scope="session", autouse=True)
def gate(logs: Path) -> None:
    """Every AWS call of this session is judged as AWS would judge it: see `tests/strict`."""
    folder = logs / STRICT
    folder.mkdir()
    hook.write_sitecustomize(REPOSITORY, folder)
    hook.install(str(folder))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A session that ended well fails for what no test may fail for; a process of it tells the one that began it."""
    problems = [*uncollected_processes(), *hook.problems(session.config.stash.get(LOGS_OF_RUN, None))]
    told: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if told is not None:
        told[PROBLEMS] = problems
        return
    problems += session.config.stash.setdefault(TOLD, [])
    for problem in problems:
        print(f"\n{problem}", file=sys.stderr)
    if problems and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """What a process of this session has told at its end; one that died told nothing, and fails its tests itself."""
    node.config.stash.setdefault(TOLD, []).extend(getattr(node, "workeroutput", {}).get(PROBLEMS, []))


def uncollected_processes() -> list[str]:
    """What a test starts, it ends, and takes its exit code: a process of which nobody did fails the session."""
    gc.collect()
    started = [cast("subprocess.Popen[bytes]", one) for one in gc.get_objects() if isinstance(one, subprocess.Popen)]
    uncollected = [one for one in started if one.returncode is None]
    return [f"no test has waited for the end of process {one.pid}: {one.args}" for one in uncollected]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Note when a test begins."""
    item.stash[BEGAN] = time.time()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails names the logs that were written meanwhile, with their ends."""
    report = yield
    folder = item.config.stash.get(LOGS_OF_RUN, None)
    if report.failed and folder:
        for path in sorted(folder.rglob("*.log")):
            if path.stat().st_mtime >= item.stash[BEGAN] - 1:
                last = path.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
                text = "\n".join(line[:400] for line in last)
                report.sections.append((f"log {path.relative_to(REPOSITORY)}", text))
    return report
