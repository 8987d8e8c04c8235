"""Runs of several phases with real agents: a plan waits for somebody, and another worker applies it."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from quaymaster_local.settings import ROOT_ACCESS_KEY, ROOT_SECRET_KEY

from tests.e2e.hosts import start_host
from tests.shared.deployed.client import Deployment
from tests.shared.passage import let_others_pass

pytestmark = pytest.mark.timeout(func_only=True)

PLAN = """
set -eu
mkdir -p .cache/deep && head -c 300000 /dev/urandom > .cache/deep/provider && chmod 750 .cache/deep/provider
ln -s deep/provider .cache/current && ln -s /etc/hostname absolute && mkfifo pipe
sha256sum < .cache/current > .cache/sum
echo "add network" > plan.out
printf '{"planned": 1, "secret": {"value": "hidden", "sensitive": true}}' > "$QUAYMASTER_OUTPUTS"
echo planned by $QUAYMASTER_PHASE
"""
APPLY = """
set -eu
test "$(sha256sum < .cache/current)" = "$(cat .cache/sum)"
test "$(stat -c %a .cache/deep/provider)" = 750
grep -q '"secret": {"value": "hidden"' "$QUAYMASTER_OUTPUTS"
sed -i 's/}}$/}, "applied": true}/' "$QUAYMASTER_OUTPUTS"
echo applied: $(cat plan.out) for $QUAYMASTER_CONFIRMED_TICKET with $SHARED in $QUAYMASTER_PHASE
"""


def phase(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "command": ["sh", "-c", script], **fields}


def send(deployment: Deployment, pool: str, request: str, *phases: Mapping[str, Any], **fields: Any) -> str:
    return deployment.send(pool, request, [], phases=list(phases), **fields)


def steer(deployment: Deployment, run: str, what: str, status: int = 200, **fields: Any) -> dict[str, Any]:
    answered, found = deployment.call("POST", f"/runs/{run}/{what}", fields)
    assert answered == status, found
    return found


def unconfirmed(deployment: Deployment, run: str) -> dict[str, Any]:
    return deployment.wait(run, "UNCONFIRMED")


def test_a_plan_is_applied_by_another_worker_once_it_is_confirmed(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    first = start_host(deployment, pool)
    run = send(
        deployment,
        pool.pool_id,
        "deploy",
        phase("plan", PLAN, retryable=True, read_only=True),
        phase("apply", APPLY, needs_confirmation=True),
        environment={"SHARED": "everywhere"},
    )
    found = unconfirmed(deployment, run)
    assert (found["worker"], [one["state"] for one in found["phases"]]) == (None, ["FINISHED", "PENDING"])
    assert deployment.read(f"/runs/{run}/outputs")["outputs"] == {"planned": 1}
    said = [line["msg"] for line in deployment.log(found)]
    assert "planned by plan" in said
    assert any("'absolute' links to '/etc/hostname'" in line for line in said)
    assert any("'pipe' is a socket, a pipe or a device" in line for line in said)
    # The worker is free for others, and then gone for good.
    assert deployment.wait(deployment.send(pool.pool_id, "other", ["true"]))["state"] == "FINISHED"
    first.kill()
    second = start_host(deployment, pool)
    assert "needs confirmation" in deployment.read(f"/runs/{run}/why")["why"]
    steer(deployment, run, "confirm", note="reviewed", metadata={"TICKET": "OPS-17"})
    found = deployment.wait(run)
    assert (found["state"], found["attempt"]) == ("FINISHED", 2)
    assert [(one["name"], one["state"], one["attempt"], one["exit_code"]) for one in found["phases"]] == [
        ("plan", "FINISHED", 1, 0),
        ("apply", "FINISHED", 2, 0),
    ]
    assert deployment.output(found) == ["applied: add network for OPS-17 with everywhere in apply"]
    shown = deployment.read(f"/runs/{run}/outputs")
    assert (shown["outputs"], shown["sensitive"]) == ({"planned": 1, "applied": True}, ["secret"])
    confirmed = [change for change in found["history"] if change["note"] == "confirm: reviewed"]
    assert [change["by"] for change in confirmed] == ["root"]
    assert steer(deployment, run, "discard", status=409)["error"].startswith(f"run {run}: found FINISHED")
    second.stop()


def test_phases_share_a_folder_and_hooks_and_the_end_see_how_it_went(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    start_host(deployment, pool)
    note = "echo at the end: $QUAYMASTER_STATE $QUAYMASTER_REASON"
    run = send(
        deployment,
        pool.pool_id,
        "well",
        phase("one", "echo one >> steps", before=[["sh", "-c", "echo before >> steps"]]),
        phase("two", "echo two >> steps", after=[["cat", "steps"]]),
        on_end=[["sh", "-c", note]],
    )
    found = deployment.wait(run)
    assert (found["state"], found["attempt"]) == ("FINISHED", 1)
    assert deployment.output(found) == ["before", "one", "two", "at the end: FINISHED"]
    by_phase = {line["phase"] for line in deployment.log(found)}
    assert by_phase == {"one", "two", "on_end"}
    failing = phase("one", "echo never", before=[["sh", "-c", "exit 4"]])
    found = deployment.wait(
        send(deployment, pool.pool_id, "badly", failing, phase("two", "true"), on_end=[["sh", "-c", note]])
    )
    assert (found["state"], found["reason"], found["exit_code"]) == ("FAILED", "hook_failed", 4)
    assert deployment.output(found) == ["at the end: FAILED hook_failed"]
    assert [one["state"] for one in found["phases"]] == ["FAILED", "PENDING"]


def test_each_phase_has_its_own_timeout(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    start_host(deployment, pool)
    short, long = phase("one", "sleep 2", run_timeout="30s"), phase("two", "sleep 60", run_timeout="1s")
    run = send(deployment, pool.pool_id, "slow", short, long)
    found = deployment.wait(run)
    assert (found["state"], found["reason"]) == ("FAILED", "run_timeout")
    assert [one["state"] for one in found["phases"]] == ["FINISHED", "FAILED"]


def test_what_nobody_confirms_in_time_and_what_nobody_wants_is_discarded(deployment: Deployment) -> None:
    pool = deployment.create_pool(confirmation_timeout="1s")
    start_host(deployment, pool)
    run = send(deployment, pool.pool_id, "late", phase("plan", "true"), phase("apply", "true", needs_confirmation=True))
    found = deployment.wait(run, "DISCARDED", reaping=True)
    assert found["reason"] == "confirmation_expired"
    patient = deployment.create_pool()
    start_host(deployment, patient)
    run = send(
        deployment, patient.pool_id, "no", phase("plan", "true"), phase("apply", "true", needs_confirmation=True)
    )
    unconfirmed(deployment, run)
    found = steer(deployment, run, "discard", note="not today")
    assert (found["state"], found["reason"], found["note"]) == ("DISCARDED", "by_user", "not today")
    assert steer(deployment, run, "discard")["state"] == "DISCARDED"
    assert "found DISCARDED" in steer(deployment, run, "confirm", status=409)["error"]


STAND_IN = """#!/bin/sh
# What a plan and its apply need of each other: the providers that init has fetched, and the plan's file.
set -eu
case "$1" in
  init) mkdir -p .terraform/providers && date +%N > .terraform/providers/lock ;;
  plan) test -d .terraform/providers && cp .terraform/providers/lock plan.out && echo "Plan: 1 to add." ;;
  apply) cmp -s .terraform/providers/lock plan.out && echo "Apply complete! Resources: 1 added." ;;
esac
"""


def tool(folder: Path) -> str:
    """Terraform or OpenTofu, or a script that needs of its plan what they need."""
    found = shutil.which("tofu") or shutil.which("terraform")
    if found:
        return found
    script = folder / "stand-in"
    script.write_text(STAND_IN)
    script.chmod(0o755)
    folder.chmod(0o755)
    return str(script)


def test_a_plan_of_the_usual_tool_is_applied_across_two_workers(deployment: Deployment, tmp_path: Path) -> None:
    let_others_pass(tmp_path)
    program = tool(tmp_path)
    pool = deployment.create_pool()
    first = start_host(deployment, pool)
    s3 = deployment.cloud.client("s3")
    bucket = f"state-{time.time_ns()}"
    s3.create_bucket(Bucket=bucket)
    backend = {
        "bucket": bucket,
        "key": "infra.tfstate",
        "region": "us-east-1",
        "endpoints": {"s3": deployment.cloud.endpoint_url},
        "use_path_style": True,
        "skip_credentials_validation": True,
        "skip_requesting_account_id": True,
        "skip_metadata_api_check": True,
    }
    resource = {"terraform_data": {"one": {"input": "x"}}}
    main = json.dumps({"terraform": {"backend": {"s3": backend}}, "resource": resource})
    plain = ["-input=false", "-no-color"]
    plan = {
        "name": "plan",
        "before": [["sh", "-c", f"printf '%s' '{main}' > main.tf.json"], [program, "init", *plain]],
        "command": [program, "plan", *plain, "-out=plan.out"],
        "retryable": True,
    }
    apply = {"name": "apply", "command": [program, "apply", *plain, "plan.out"], "needs_confirmation": True}
    credentials = {"AWS_ACCESS_KEY_ID": ROOT_ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": ROOT_SECRET_KEY}
    run = send(deployment, pool.pool_id, "infra", plan, apply, environment=credentials)
    found = unconfirmed(deployment, run)
    said = deployment.output(found)
    assert any("Plan: 1 to add" in line for line in said), said
    first.kill()
    start_host(deployment, pool)
    steer(deployment, run, "confirm")
    found = deployment.wait(run)
    assert found["state"] == "FINISHED"
    assert any("Apply complete! Resources: 1 added" in line for line in deployment.output(found))
    if program != str(tmp_path / "stand-in"):
        state = json.loads(s3.get_object(Bucket=bucket, Key="infra.tfstate")["Body"].read())
        assert [one["type"] for one in state["resources"]] == ["terraform_data"]
