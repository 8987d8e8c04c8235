"""Timeouts: the agent enforces them exactly, the control plane as well, and who cannot upload is not called silent."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from quaymaster.domain.messages import Renew
from quaymaster_local.agent import AgentProcess

from tests.e2e.hosts import freeze, start_host, thaw, wait_for_end, wait_for_pid
from tests.shared.deployed.client import Deployment, seconds_of, wait_until
from tests.shared.deployed.impostor import Impostor

pytestmark = pytest.mark.timeout(func_only=True)

TALK = "while true; do echo tick; sleep 0.2; done"


@dataclass(frozen=True)
class LongRun:
    """A run that is longer than the life of its grants, and the host that it is on."""

    run: str
    host: AgentProcess


@pytest.fixture(scope="module", autouse=True)
def long_run(deployment: Deployment) -> Iterator[LongRun]:
    """Begun before all else, so that the other stories pass meanwhile: a grant lives a minute at least."""
    pool = deployment.create_pool(grant_life="1m")
    host = start_host(deployment, pool, env={"QUAYMASTER_DEBUG": "true"})
    talk = "for i in $(seq 65); do echo $i; sleep 1; done"
    yield LongRun(deployment.send(pool.pool_id, "one", ["sh", "-c", talk]), host)
    host.close()


def test_a_silent_run_is_killed_by_its_log_timeout(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    start_host(deployment, pool)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo a; sleep 60"], log_timeout="3s")
    found = deployment.wait(run)
    assert (found["state"], found["reason"]) == ("FAILED", "log_timeout")
    assert 2.5 < seconds_of(found) < 60
    assert any(line["stream"] == "agent" for line in deployment.log(found))


def test_an_overrunning_run_is_killed_though_it_talks(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    start_host(deployment, pool)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", TALK], run_timeout="4s")
    found = deployment.wait(run)
    assert (found["state"], found["reason"]) == ("FAILED", "run_timeout")
    assert 3.5 < seconds_of(found) < 60


def test_the_least_of_request_pool_and_launcher_is_the_timeout(deployment: Deployment) -> None:
    pool = deployment.create_pool(log_timeout="20s", run_timeout="45s", max_run_timeout="50s")
    launcher = {"QUAYMASTER_LAUNCHER_LOG_TIMEOUT": "9s", "QUAYMASTER_LAUNCHER_RUN_TIMEOUT": "40s"}
    host = start_host(deployment, pool, env=launcher)
    found = deployment.wait(deployment.send(pool.pool_id, "one", ["true"], run_timeout="30s"))
    assert (found["log_timeout"], found["run_timeout"]) == ("9s", "30s")
    assert host.stop() == 0
    start_host(deployment, pool)
    found = deployment.wait(deployment.send(pool.pool_id, "two", ["true"]))
    assert (found["log_timeout"], found["run_timeout"]) == ("20s", "45s")


def test_what_a_frozen_agent_does_not_enforce_the_control_plane_does(deployment: Deployment, open_folder: Path) -> None:
    pool = deployment.create_pool()
    silent, overrunning = open_folder / "silent", open_folder / "overrunning"
    host = start_host(deployment, pool, count=2)
    tell = "echo $$ > {file}; exec sleep 300"
    runs = {
        "log_timeout": deployment.send(
            pool.pool_id, "silent", ["sh", "-c", tell.format(file=silent)], log_timeout="5s"
        ),
        "run_timeout": deployment.send(
            pool.pool_id, "overrunning", ["sh", "-c", tell.format(file=overrunning)], run_timeout="5s"
        ),
    }
    pids = [wait_for_pid(silent), wait_for_pid(overrunning)]
    freeze(host)
    for reason, run in runs.items():
        found = deployment.wait(run, reaping=True)
        assert (found["state"], found["reason"]) == ("FAILED", reason)
    thaw(host)
    for pid in pids:
        wait_for_end(pid)


def test_an_agent_that_lies_about_its_output_is_ended_by_the_run_timeout(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    with Impostor(deployment.cloud, pool) as liar:
        deployment.wait_workers(pool.pool_id, 1)
        run = deployment.send(pool.pool_id, "one", ["true"], log_timeout="2s", run_timeout="6s")
        liar.begin(run)

        def still_running() -> bool:
            liar.say("renew", Renew(session=liar.session, run=run, attempt=1, quiet_seconds=0, uploads="failing"))
            deployment.cloud.reap()
            found = deployment.read(f"/runs/{run}")
            return found["state"] == "RUNNING"

        wait_until(lambda: not still_running(), 90)
    found = deployment.read(f"/runs/{run}")
    assert (found["state"], found["reason"]) == ("FAILED", "run_timeout")
    assert seconds_of(found) > 6


def test_an_agent_that_cannot_upload_and_says_so_is_not_killed_for_silence(deployment: Deployment) -> None:
    pool = deployment.create_pool(backstop_slack="6s")
    start_host(deployment, pool)
    talk = "for i in $(seq 72); do echo $i; sleep 0.5; done"
    with deployment.uploads_denied(pool.pool_id):
        run = deployment.send(pool.pool_id, "one", ["sh", "-c", talk], log_timeout="20s")
        deployment.wait(run, "RUNNING")
        begun = time.monotonic()
        wait_until(lambda: deployment.read(f"/runs/{run}")["upload_failing"], 40)
        while time.monotonic() < begun + 30:
            deployment.cloud.reap()
            time.sleep(1)
        assert deployment.read(f"/runs/{run}")["state"] == "RUNNING"
        assert not deployment.chunks(pool.pool_id, run)
    found = deployment.wait(run, seconds=90, reaping=True)
    assert found["state"] == "FINISHED"
    assert deployment.output(found) == [str(number) for number in range(1, 73)]


def test_grants_are_renewed_before_they_expire(deployment: Deployment, long_run: LongRun) -> None:
    found = deployment.wait(long_run.run, seconds=240)
    assert (found["state"], found["digest"]["complete"]) == ("FINISHED", True)
    assert seconds_of(found) > 60
    assert deployment.output(found) == [str(number) for number in range(1, 66)]
    said = long_run.host.output()
    assert said.count('"kind": "grants"') >= 2
    assert "403" not in said
