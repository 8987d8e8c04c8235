"""Agents that are killed: before and after `go`, with and without a restart on the same host."""

from pathlib import Path

import pytest

from tests.e2e.hosts import freeze, start_host, wait_for_end, wait_for_pid
from tests.shared.deployed.client import Deployment, wait_until

pytestmark = pytest.mark.timeout(func_only=True)


def test_an_agent_killed_after_go_is_lost_and_its_log_outlives_its_chunks(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    host = start_host(deployment, pool)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo before; sleep 120"])
    deployment.wait(run, "RUNNING")
    wait_until(lambda: deployment.chunks(pool.pool_id, run))
    host.kill()
    found = deployment.wait(run, reaping=True)
    assert (found["state"], found["reason"]) == ("FAILED", "worker_lost")
    found = deployment.wait_assembled(run)
    deployment.expire_chunks(pool.pool_id, run)
    assert deployment.output(found) == ["before"]
    last = deployment.log(found)[-1]["msg"]
    assert "incomplete" in last
    assert "worker_lost" in last


def test_an_agent_killed_and_restarted_on_its_host_reports_what_it_removed(
    deployment: Deployment, open_folder: Path
) -> None:
    pool = deployment.create_pool(lease="5m")
    home, pid_file = open_folder / "host", open_folder / "pid"
    host = start_host(deployment, pool, state_dir=home)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", f"echo $$ > {pid_file}; exec sleep 300"])
    pid = wait_for_pid(pid_file)
    deployment.wait(run, "RUNNING")
    host.kill()
    start_host(deployment, pool, state_dir=home)
    found = deployment.wait(run)
    assert (found["state"], found["reason"]) == ("FAILED", "worker_lost")
    wait_for_end(pid)


def test_a_run_whose_spot_capacity_is_taken_back_says_so_or_comes_again(deployment: Deployment) -> None:
    pool = deployment.create_pool("fargate", capacity="spot", max_workers=3)
    single = deployment.send(pool.pool_id, "single", ["sleep", "120"])
    again = deployment.send(
        pool.pool_id, "again", ["sh", "-c", "[ $QUAYMASTER_ATTEMPT = 2 ] || sleep 120"], retryable=True
    )
    for run in (single, again):
        deployment.wait(run, "RUNNING")
    ecs, cluster = deployment.cloud.ecs(), deployment.cloud.outputs["ClusterName"]
    family = f"{deployment.cloud.namespace}-pool-{pool.pool_id}"
    for task in ecs.list_tasks(cluster=cluster, family=family)["taskArns"]:
        deployment.cloud.take_back(task)
    found = deployment.wait(single)
    wait_until(lambda: (deployment.run(single) or {})["reason"] == "spot_interrupted")
    assert (found["state"], found["attempt"]) == ("FAILED", 1)
    found = deployment.wait(again, "FINISHED", "FAILED")
    assert (found["state"], found["attempt"]) == ("FINISHED", 2)


def test_a_run_whose_agent_dies_before_go_goes_to_another(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    host = start_host(deployment, pool)
    freeze(host)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo ran on attempt $QUAYMASTER_ATTEMPT"])
    deployment.wait(run, "PREPARING")
    host.kill()
    deployment.cloud.start_agent(pool.token, pool.key)
    found = deployment.wait(run, reaping=True)
    assert (found["state"], found["attempt"]) == ("FINISHED", 2)
    assert deployment.output(found) == ["ran on attempt 2"]


def test_a_run_whose_agent_dies_before_go_may_go_to_the_same_host(deployment: Deployment, open_folder: Path) -> None:
    pool = deployment.create_pool(lease="5m")
    host = start_host(deployment, pool, state_dir=open_folder / "host")
    with deployment.deaf():
        run = deployment.send(pool.pool_id, "one", ["sh", "-c", f"echo x >> {open_folder}/ran"])
        wait_until(lambda: '"assigned"' in host.output())
        host.kill()
    deployment.cloud.start_agent(pool.token, pool.key, state_dir=open_folder / "host")
    found = deployment.wait(run, reaping=True)
    assert (found["state"], found["attempt"]) == ("FINISHED", 2)
    assert (open_folder / "ran").read_text() == "x\n"
