"""Agents that are asked to end: SIGTERM while idle, before `go`, and during a run."""

from pathlib import Path

import pytest

from tests.e2e.hosts import start_host
from tests.shared.deployed.client import Deployment, wait_until

pytestmark = pytest.mark.timeout(func_only=True)


def test_an_idle_agent_says_goodbye(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    host = start_host(deployment, pool, count=2)
    assert host.stop() == 0
    assert len(deployment.wait_workers(pool.pool_id, 2, "GONE")) == 2


def test_before_go_the_run_is_handed_back_and_goes_to_another(deployment: Deployment) -> None:
    pool = deployment.create_pool(accept_timeout="30s")
    host = start_host(deployment, pool)
    with deployment.deaf():
        run = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo ran"])
        wait_until(lambda: '"assigned"' in host.output())
        host.process.terminate()
        wait_until(lambda: "asked to end" in host.output())
    assert host.wait() == 0
    deployment.cloud.start_agent(pool.token, pool.key)
    found = deployment.wait(run, reaping=True)
    assert (found["state"], found["attempt"], found["losses"]) == ("FINISHED", 2, 0), found["history"]


def test_during_a_run_it_is_interrupted_and_its_log_is_whole(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    host = start_host(deployment, pool)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo begun; sleep 120"])
    deployment.wait(run, "RUNNING")
    wait_until(lambda: deployment.chunks(pool.pool_id, run))
    assert host.stop() == 0
    found = deployment.wait(run)
    assert (found["state"], found["reason"]) == ("FAILED", "interrupted")
    assert found["digest"]["complete"]
    assert deployment.output(found) == ["begun"]
    assert [worker["state"] for worker in deployment.workers(pool.pool_id)] == ["GONE"]


def test_a_retryable_run_whose_worker_leaves_begins_again_on_another(deployment: Deployment, open_folder: Path) -> None:
    pool = deployment.create_pool(accept_timeout="30s")
    host = start_host(deployment, pool)
    command = ["sh", "-c", f"echo attempt $QUAYMASTER_ATTEMPT; [ -e {open_folder}/again ] || sleep 300"]
    run = deployment.send(pool.pool_id, "one", command, retryable=True)
    deployment.wait(run, "RUNNING")
    wait_until(lambda: deployment.chunks(pool.pool_id, run))
    (open_folder / "again").touch()
    assert host.stop() == 0
    deployment.cloud.start_agent(pool.token, pool.key)
    found = deployment.wait(run)
    assert (found["state"], found["attempt"]) == ("FINISHED", 2), found["history"]
    assert deployment.output(found) == ["attempt 2"]
