"""How runs end when their agent and their task live: each with a real agent, command, broker, function and bucket."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from quaymaster.domain.ids import run_id, task_id, worker_name

from tests.e2e.hosts import agent_of, start_host
from tests.shared.deployed.client import Deployment, wait_until

pytestmark = pytest.mark.timeout(func_only=True)


def test_a_queued_request_becomes_a_log_in_s3(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    start_host(deployment, pool)
    command = ["sh", "-c", "echo hello; echo $GREETING"]
    run = deployment.send(pool.pool_id, "one", command, environment={"GREETING": "hi"})
    found = deployment.wait(run)
    assert (found["state"], found["reason"], found["exit_code"]) == ("FINISHED", None, 0)
    assert deployment.output(found) == ["hello", "hi"]
    assert found["digest"]["complete"]


def test_a_command_and_an_environment_that_no_message_carries_arrive_whole(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    start_host(deployment, pool)
    script = 'printf "%s %s %s\\n" "$(printf %s "$1" | wc -c)" "$(printf %s "$BIG" | wc -c)" "$LAST"'
    large = {"BIG": "界" * 15_000, "LAST": "end"}
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", script, "sh", "x" * 100_000], environment=large)
    found = deployment.wait(run)
    assert (found["state"], found["note"]) == ("FINISHED", None)
    assert [line.split() for line in deployment.output(found)] == [["100000", "45000", "end"]]


LEAVES = """
test ! -e "$QUAYMASTER_OUTPUTS"
printf '{"url": "https://x", "token": {"value": "hunter2", "sensitive": true}}' > "$QUAYMASTER_OUTPUTS"
"""


def test_a_command_leaves_outputs_and_what_is_sensitive_stays_on_the_worker(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    start_host(deployment, pool)
    left = deployment.wait(deployment.send(pool.pool_id, "leaves", ["sh", "-ec", LEAVES]))
    assert left["state"] == "FINISHED"
    shown = deployment.read(f"/runs/{left['run']}/outputs")
    assert (shown["outputs"], shown["sensitive"]) == ({"url": "https://x"}, ["token"])
    bucket, s3 = deployment.cloud.outputs["BucketName"], deployment.cloud.client("s3")
    (stored,) = s3.list_objects_v2(Bucket=bucket, Prefix=f"outputs/{pool.pool_id}/{left['run']}/")["Contents"]
    assert b"hunter2" not in s3.get_object(Bucket=bucket, Key=stored["Key"])["Body"].read()
    for name, script, said in (
        ("link", "ln -s /etc/hostname $QUAYMASTER_OUTPUTS", "Too many levels of symbolic links"),
        ("text", "echo hunter2 > $QUAYMASTER_OUTPUTS", "outputs: found 8 bytes that are no JSON"),
        ("none", "true", None),
    ):
        found = deployment.wait(deployment.send(pool.pool_id, name, ["sh", "-c", script]))
        assert (found["state"], found["digest"]["complete"]) == ("FINISHED", True)
        agents = [line["msg"] for line in deployment.log(found) if line["stream"] == "agent"]
        if said:
            assert any(msg.startswith(f"the outputs are left out: {said}") for msg in agents), agents
        else:
            assert agents == []
        status, problem = deployment.call("GET", f"/runs/{found['run']}/outputs")
        assert (status, problem["error"]) == (404, f"no outputs of run '{found['run']}'")


TRUST = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}


def test_a_phase_acts_as_its_pools_role_and_as_nobody_on_any_other_pool(deployment: Deployment) -> None:
    cloud = deployment.cloud
    name = f"{cloud.namespace}-run-{time.time_ns()}"
    policy = json.dumps({"Version": "2012-10-17", "Statement": [TRUST]})
    role = cloud.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy)["Role"]["Arn"]
    own, other = deployment.create_pool("fargate", task_role=role), deployment.create_pool("fargate")
    # The role's credentials are there as long as its task is.
    acting = deployment.send(own.pool_id, "who", ["sh", "-c", "env | grep ^AWS_; sleep 15"])
    nobody = deployment.wait(deployment.send(other.pool_id, "who", ["sh", "-c", "env | grep ^AWS_"]), seconds=90)
    assert (nobody["exit_code"], deployment.output(nobody)) == (1, [])

    found = deployment.wait(acting, "RUNNING", seconds=90)
    wait_until(lambda: deployment.shipped(own.pool_id, acting))
    given = dict(line.split("=", 1) for line in deployment.shipped(own.pool_id, acting))
    assert identity(cloud.endpoint_url, given) == (
        f"arn:aws:sts::000000000000:assumed-role/{name}/{task_id(worker_name(found['worker']))}"
    )
    assert deployment.wait(acting)["state"] == "FINISHED"


def identity(endpoint_url: str, environment: dict[str, str]) -> str:
    """Who an SDK is that finds credentials in this environment by its ordinary chain, and nowhere else."""
    script = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    alone = {"AWS_ENDPOINT_URL": endpoint_url, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}
    asked = {**alone, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, **environment}
    found = subprocess.run([sys.executable, "-c", script], env=asked, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_a_failing_command_ends_with_its_exit_code(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    start_host(deployment, pool)
    found = deployment.wait(deployment.send(pool.pool_id, "one", ["sh", "-c", "echo no; exit 7"]))
    assert (found["state"], found["reason"], found["exit_code"]) == ("FAILED", "exit_code", 7)


def test_a_task_is_started_when_nobody_is_idle_and_ends_with_its_run(deployment: Deployment) -> None:
    pool = deployment.create_pool("fargate", max_workers=2)
    found = deployment.wait(deployment.send(pool.pool_id, "one", ["sh", "-c", "echo on fargate"]), seconds=90)
    assert found["state"] == "FINISHED"
    wait_until(lambda: deployment.read(f"/pools/{pool.pool_id}")["workers_reserved"] == 0, 60)
    # A worker that has done what it was started for leaves nothing but its run.
    assert deployment.workers(pool.pool_id) == []


@pytest.fixture
def busy_task(deployment: Deployment) -> tuple[str, str]:
    """A run in its phase on a task, and the task's id."""
    pool = deployment.create_pool("fargate", max_workers=1)
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo started; sleep 120"])
    found = deployment.wait(run, "RUNNING", seconds=90)
    return run, task_id(worker_name(found["worker"]))


def test_a_task_stopped_by_ecs_interrupts_its_run(deployment: Deployment, busy_task: tuple[str, str]) -> None:
    run, task = busy_task
    cluster = deployment.cloud.outputs["ClusterName"]
    deployment.cloud.ecs().stop_task(cluster=cluster, task=task, reason="an operator wanted it")
    found = deployment.wait(run)
    assert (found["state"], found["reason"]) == ("FAILED", "interrupted")
    assert deployment.output(found) == ["started"]


def test_a_task_that_dies_fails_its_run_as_soon_as_ecs_says_so(
    deployment: Deployment, busy_task: tuple[str, str]
) -> None:
    run, task = busy_task
    agent_of(task).kill()
    found = deployment.wait(run)
    assert (found["state"], found["reason"]) == ("FAILED", "worker_lost")
    assert "ecs" in {change["by"] for change in found["history"]}


def test_the_same_request_twice_is_one_run(deployment: Deployment, open_folder: Path) -> None:
    pool = deployment.create_pool()
    start_host(deployment, pool, count=2)
    ran = open_folder / "ran"
    command = ["sh", "-c", f"echo x >> {ran}"]
    (run,) = {deployment.send(pool.pool_id, "same", command) for _ in range(3)}
    deployment.wait(run)
    time.sleep(2)
    assert ran.read_text() == "x\n"
    assert [one["run"] for one in deployment.read(f"/pools/{pool.pool_id}/runs")["runs"]] == [run]


def test_malformed_requests_are_refused_once_and_the_good_ones_go_through(deployment: Deployment) -> None:
    pool = deployment.create_pool(max_log_timeout="10m")
    start_host(deployment, pool)
    good: dict[str, Any] = {"schema": 1, "pool": pool.pool_id, "command": ["true"]}
    bad = {
        "a JSON object": "nonsense",
        "schema": json.dumps({**good, "schema": 99}),
        "no-such-pool": json.dumps({**good, "pool": "no-such-pool"}),
        "a duration is written": json.dumps({**good, "log_timeout": "7 minutes"}),
        "command": json.dumps({**good, "command": []}),
        "allows at most": json.dumps({**good, "log_timeout": "11m"}),
        "bytes": json.dumps({**good, "environment": {"A": "x" * 60_000, "B": "y" * 60_000}}),
    }
    deployment.send_raw(*bad.values(), json.dumps({**good, "id": "fine"}))
    assert deployment.wait(run_id(pool.pool_id, "fine"))["state"] == "FINISHED"
    reasons = deployment.refusals(*bad)
    assert reasons["a duration is written"].startswith("log_timeout")
