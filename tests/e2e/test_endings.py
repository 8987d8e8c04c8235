"""One story for each way a run may end, with real agents, commands, broker, functions and bucket."""

import json
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from longshore.domain.ids import run_id

from tests.e2e.client import Deployment


def test_a_queued_request_becomes_a_log_in_s3(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    with_agent(deployment, pool)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo hello; echo $GREETING"], environment={"GREETING": "hi"})
    found = deployment.wait(run)
    assert (found["state"], found["reason"], found["exit_code"]) == ("FINISHED", None, 0)
    lines = deployment.log(found)
    assert [line["msg"] for line in lines if line["stream"] == "output"] == ["hello", "hi"]
    assert found["digest"]["complete"]


def test_a_failing_command_ends_with_its_exit_code(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    with_agent(deployment, pool)
    found = deployment.wait(deployment.send(pool.pool_id, "one", ["sh", "-c", "echo no; exit 7"]))
    assert (found["state"], found["reason"], found["exit_code"]) == ("FAILED", "exit_code", 7)


def test_a_silent_run_is_killed_by_its_log_timeout(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    with_agent(deployment, pool)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo a; sleep 60"], log_timeout="3s")
    found = deployment.wait(run, seconds=30)
    assert (found["state"], found["reason"]) == ("FAILED", "log_timeout")
    assert seconds(found) < 15
    assert any(line["stream"] == "agent" for line in deployment.log(found))


def test_an_overrunning_run_is_killed_though_it_talks(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    with_agent(deployment, pool)
    talk = "while true; do echo tick; sleep 0.2; done"
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", talk], run_timeout="4s")
    found = deployment.wait(run, seconds=30)
    assert (found["state"], found["reason"]) == ("FAILED", "run_timeout")
    assert 3.5 < seconds(found) < 16


def test_a_pools_maximum_and_the_launchers_variable_bound_the_timeouts(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    with_agent(deployment, pool, env={"LONGSHORE_LAUNCHER_LOGS_TIMEOUT": "9s", "LONGSHORE_LAUNCHER_RUN_TIMEOUT": "40s"})
    found = deployment.wait(deployment.send(pool.pool_id, "one", ["true"], log_timeout="20s", run_timeout="30s"))
    assert (found["log_timeout"], found["run_timeout"]) == ("9s", "30s")


def test_an_agent_killed_after_go_is_lost_and_its_log_is_put_together(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    agent = with_agent(deployment, pool)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo before; sleep 120"])
    deployment.wait(run, "RUNNING")
    wait_for_chunk(deployment, pool.pool_id, run)
    agent.kill()
    found = deployment.wait(run, seconds=60, reaping=True)
    assert (found["state"], found["reason"]) == ("FAILED", "worker_lost")
    remove_chunks(deployment, pool.pool_id, run)
    lines = deployment.log(wait_for_digest(deployment, run))
    assert [line["msg"] for line in lines if line["stream"] == "output"] == ["before"]
    assert "incomplete" in lines[-1]["msg"]
    assert "worker_lost" in lines[-1]["msg"]


def test_an_agent_killed_and_restarted_on_its_host_reports_what_it_removed(
    deployment: Deployment, open_folder: Path
) -> None:
    pool = deployment.create_pool(lease="5m")
    agent = with_agent(deployment, pool, state_dir=open_folder / "host")
    pid_file = open_folder / "pid"
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", f"echo $$ > {pid_file}; exec sleep 300"])
    deployment.wait(run, "RUNNING")
    wait_until(pid_file.exists)
    agent.kill()
    with_agent(deployment, pool, state_dir=open_folder / "host")
    found = deployment.wait(run, seconds=30)
    assert (found["state"], found["reason"]) == ("FAILED", "worker_lost")
    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists()


def test_a_run_whose_agent_dies_before_go_goes_to_another(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    first = with_agent(deployment, pool)
    freeze(first.pid)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo ran on attempt $LONGSHORE_ATTEMPT"])
    deployment.wait(run, "PREPARING")
    first.kill()
    deployment.cloud.start_agent(pool.token, pool.key)
    found = deployment.wait(run, seconds=60, reaping=True)
    assert found["state"] == "FINISHED"
    assert found["attempt"] == 2


def test_a_task_is_started_when_nobody_is_idle_and_ends_with_its_run(deployment: Deployment) -> None:
    pool = deployment.create_pool("fargate", max_workers=2)
    found = deployment.wait(deployment.send(pool.pool_id, "one", ["sh", "-c", "echo on fargate"]), seconds=60)
    assert found["state"] == "FINISHED"
    wait_until(lambda: deployment.call("GET", f"/pools/{pool.pool_id}")[1]["workers_reserved"] == 0, 30)
    assert [w["state"] for w in deployment.workers(pool.pool_id)] == ["GONE"]


def test_a_task_stopped_by_ecs_fails_its_run(deployment: Deployment) -> None:
    pool = deployment.create_pool("fargate", max_workers=1)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo started; sleep 120"])
    deployment.wait(run, "RUNNING", seconds=60)
    ecs = deployment.cloud.ecs()
    cluster = deployment.cloud.outputs["ClusterName"]
    worker = deployment.workers(pool.pool_id)[0]["id"].rpartition(".")[2]
    tasks = [arn for arn in ecs.list_tasks(cluster=cluster)["taskArns"] if arn.endswith(worker)]
    ecs.stop_task(cluster=cluster, task=tasks[0], reason="an operator wanted it")
    found = deployment.wait(run, seconds=60)
    assert (found["state"], found["reason"]) in {("FAILED", "interrupted"), ("FAILED", "worker_lost")}


def test_the_same_request_twice_is_one_run(deployment: Deployment, open_folder: Path) -> None:
    pool = deployment.create_pool()
    with_agent(deployment, pool, count=2)
    ran = open_folder / "ran"
    command = ["sh", "-c", f"echo x >> {ran}"]
    for _ in range(3):
        run = deployment.send(pool.pool_id, "same", command)
    deployment.wait(run)
    time.sleep(2)
    assert ran.read_text() == "x\n"
    assert deployment.call("GET", f"/pools/{pool.pool_id}/runs")[1]["runs"][0]["id"] == run


def test_malformed_requests_are_refused_once_and_the_good_ones_go_through(deployment: Deployment) -> None:
    pool = deployment.create_pool(max_log_timeout="10m")
    with_agent(deployment, pool)
    good: dict[str, Any] = {"schema": 1, "pool": pool.pool_id, "command": ["true"]}
    bad = {
        "a JSON object": "nonsense",
        "schema": json.dumps({**good, "schema": 99}),
        "pool": json.dumps({**good, "pool": "no-such-pool"}),
        "log_timeout": json.dumps({**good, "log_timeout": "7 minutes"}),
        "command": json.dumps({**good, "command": []}),
        "allows at most": json.dumps({**good, "log_timeout": "11m"}),
        "bytes": json.dumps({**good, "environment": {"A": "x" * 60_000, "B": "y" * 60_000}}),
    }
    deployment.send_raw(*bad.values(), json.dumps({**good, "id": "fine"}))
    assert deployment.wait(run_id(pool.pool_id, "fine"))["state"] == "FINISHED"
    wait_until(lambda: len(deployment.dead_letters()) >= len(bad), 30)
    reasons = [str(letter["reason"]) for letter in deployment.dead_letters()]
    for word in bad:
        assert any(word in reason for reason in reasons), (word, reasons)


def with_agent(deployment: Deployment, pool: Any, count: int = 1, **options: Any) -> Any:
    """Start an agent and wait until its workers are IDLE."""
    before = sum(w["state"] == "IDLE" for w in deployment.workers(pool.pool_id))
    agent = deployment.cloud.start_agent(pool.token, pool.key, count, **options)
    deployment.wait_workers(pool.pool_id, before + count)
    return agent


def seconds(found: Any) -> float:
    """How long the run's phase took, by the control plane's clock."""
    return (datetime.fromisoformat(found["ended_at"]) - datetime.fromisoformat(found["begun_at"])).total_seconds()


def wait_until(holds: Any, limit: float = 20) -> None:
    """Wait for a condition, boundedly."""
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.2)


def freeze(pid: int) -> None:
    """SIGSTOP: the agent is there, and answers nothing."""
    os.kill(pid, signal.SIGSTOP)


def chunk_keys(deployment: Deployment, pool_id: str, run: str) -> list[str]:
    """The run's chunks in the bucket."""
    bucket = deployment.cloud.outputs["BucketName"]
    found = deployment.cloud.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"chunks/{pool_id}/{run}/")
    return [one["Key"] for one in found.get("Contents", [])]


def wait_for_chunk(deployment: Deployment, pool_id: str, run: str) -> None:
    """Wait until the run's first output has been shipped."""
    wait_until(lambda: bool(chunk_keys(deployment, pool_id, run)))


def remove_chunks(deployment: Deployment, pool_id: str, run: str) -> None:
    """What the bucket's lifecycle does to chunks after two days."""
    wait_for_digest(deployment, run)
    bucket = deployment.cloud.outputs["BucketName"]
    for key in chunk_keys(deployment, pool_id, run):
        deployment.cloud.client("s3").delete_object(Bucket=bucket, Key=key)


def wait_for_digest(deployment: Deployment, run: str) -> dict[str, Any]:
    """Wait until the run's final log is written."""
    wait_until(lambda: (deployment.run(run) or {}).get("digest") is not None)
    found = deployment.run(run)
    assert found
    return found
