"""A pool whose workers run containers, on a host with a real engine: from the request to the log."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from quaymaster_local.agent import AgentProcess

from tests.e2e.hosts import start_host
from tests.shared.deployed.client import Credential, Deployment, wait_until
from tests.shared.deployed.engine import BASE, Engine
from tests.shared.passage import let_others_pass

pytestmark = [pytest.mark.docker, pytest.mark.local]

SECRET = "correct-horse-battery"


@pytest.fixture
def pool(deployment: Deployment) -> Credential:
    return deployment.create_pool(executor="docker", image=BASE)


@pytest.fixture
def host(deployment: Deployment, container_engine: Engine) -> Callable[..., AgentProcess]:
    """Starts an agent that has the engine."""
    found = {name: container_engine.environment[name] for name in ("DOCKER_HOST", "DOCKER_CONFIG")}

    def start(pool: Credential, **options: Any) -> AgentProcess:
        own: Mapping[str, str] = options.pop("env", {})
        # Whatever the tests name is here, or nowhere.
        kept = {} if "prefix" in options else {"QUAYMASTER_WORKER_IMAGE_PULL": "missing"}
        return start_host(deployment, pool, env={**found, **kept, **own}, **options)

    return start


def images(engine: Engine) -> None:
    """Names for the one image."""
    for name in ("ours:1", "tools:latest", "ansible:1"):
        engine.docker("tag", BASE, name)


def shown(deployment: Deployment, run: str) -> tuple[str, str]:
    found = deployment.wait(run)
    assert found["state"] == "FINISHED", found
    return found["image"], found["image_from"]


def test_the_image_is_the_requests_else_the_hosts_for_the_tool_else_the_pools(
    deployment: Deployment, pool: Credential, host: Callable[..., AgentProcess], container_engine: Engine
) -> None:
    images(container_engine)
    host(pool, env={"QUAYMASTER_DEFAULT_ANSIBLE_RUNNER_IMAGE": "ansible:1", "QUAYMASTER_DEBUG": "true"})
    plain = deployment.send(pool.pool_id, "plain", ["sh", "-c", "echo here; pwd"])
    assert shown(deployment, plain) == (BASE, "pool")
    assert deployment.output(deployment.wait(plain)) == ["here", "/mnt/quaymaster/workspace"]
    asked = deployment.send(pool.pool_id, "asked", ["true"], image="ours:1", tool="ansible")
    assert shown(deployment, asked) == ("ours:1", "request")
    ansible = deployment.send(pool.pool_id, "ansible", ["true"], tool="ansible")
    assert shown(deployment, ansible) == ("ansible:1", "launcher")
    said = [line["msg"] for line in deployment.log(deployment.wait(ansible)) if line["stream"] == "agent"]
    assert "$ true" in said


def test_what_a_phase_sees_of_its_host_is_what_the_host_says(
    deployment: Deployment,
    pool: Credential,
    host: Callable[..., AgentProcess],
    open_folder: Path,
) -> None:
    (open_folder / "shared").write_text("from the host\n")
    agent = host(
        pool,
        env={
            "ALWAYS": SECRET, "READING": "r", "WRITING": "w", "OTHER": "o",
            "QUAYMASTER_WHITELIST_ENVS": "ALWAYS,ro_READING,wo_WRITING",
            "QUAYMASTER_MASK_ENVS": "ALWAYS,GIVEN",
            "QUAYMASTER_WORKER_RO_EXTRA_MOUNTS": f"{open_folder}:/shared:ro",
            "QUAYMASTER_WORKER_NETWORK": "none",
            "QUAYMASTER_RUN_LOGS_ON_STANDARD_OUTPUT_ENABLED": "true",
        },
    )  # fmt: skip
    script = (
        "echo $READING,$WRITING,$OTHER; echo $ALWAYS $GIVEN; echo $ALWAYS | base64; cat /shared/shared; "
        "tail -n +3 /proc/net/dev | wc -l; echo ::add-mask $(printf added-%s secret); echo added-secret"
    )
    given = {"environment": {"GIVEN": "another-secret"}, "stack": "network"}
    reading = deployment.send(pool.pool_id, "reading", ["sh", "-c", script], type="proposed", **given)
    writing = deployment.send(pool.pool_id, "writing", ["sh", "-c", script], **given)
    masked = ["***** *****", "*****"]
    end = ["1", "::add-mask *****", "*****"]
    read, wrote = (deployment.output(deployment.wait(run)) for run in (reading, writing))
    assert [read[0], *read[1:2]] == ["r,,", masked[0]]
    assert read[3:] == ["from the host", *end]
    assert wrote[0] == ",w,"
    whole = json.dumps([read, wrote]) + agent.output()
    for secret in (SECRET, "another-secret", "added-secret", "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"):
        assert secret not in whole
    lines = [json.loads(line) for line in agent.output().splitlines() if '"run_ulid"' in line]
    of_run = [line for line in lines if line["run_ulid"] == reading]
    assert [line["msg"] for line in of_run if line["stream"] == "output"] == read
    assert {line["stack_id"] for line in of_run} == {"network"}
    assert all({"ts", "msg", "level"} <= line.keys() for line in of_run)


def test_memory_that_runs_out_and_time_that_runs_out_are_told_apart(
    deployment: Deployment, pool: Credential, host: Callable[..., AgentProcess], container_engine: Engine
) -> None:
    host(pool, count=3, env={"QUAYMASTER_WORKER_MEMORY": "64m"})
    eat = deployment.send(pool.pool_id, "eat", ["python3", "-c", "x = bytearray(500 << 20)"])
    silent = deployment.send(pool.pool_id, "silent", ["sleep", "300"], log_timeout="3s")
    long = ["sh", "-c", "trap 'echo bye' TERM; while :; do echo on; sleep 0.3; done"]
    endless = deployment.send(pool.pool_id, "endless", long, run_timeout="3s")
    reasons = [deployment.wait(run)["reason"] for run in (eat, silent, endless)]
    assert reasons == ["out_of_memory", "log_timeout", "run_timeout"]
    eaten = deployment.wait(eat)
    assert eaten["note"].startswith("killed because memory ran out")
    used = deployment.wait(endless)["usage"]
    assert used["memory_limit_bytes"] == 64 << 20
    assert 0 < used["memory_peak_bytes"] < 64 << 20
    assert used["elapsed_ms"] > 400
    assert deployment.end(deployment.wait(endless))["outcome"]["usage"].items() <= used.items()
    assert "bye" in deployment.output(deployment.wait(endless))
    assert container_engine.docker("ps", "--all", "--quiet").stdout == ""


def test_an_agent_that_is_killed_takes_its_container_along_and_the_next_one_reports_the_run(
    deployment: Deployment, pool: Credential, host: Callable[..., AgentProcess], container_engine: Engine
) -> None:
    agent = host(pool)
    run = deployment.send(pool.pool_id, "long", ["sleep", "300"])
    deployment.wait(run, "RUNNING")
    wait_until(lambda: container_engine.docker("ps", "--quiet").stdout != "")
    agent.kill()
    wait_until(lambda: container_engine.docker("ps", "--all", "--quiet").stdout == "")
    host(pool, state_dir=agent.state_dir)
    found = deployment.wait(run)
    assert (found["state"], found["reason"]) == ("FAILED", "worker_lost")


def test_an_agent_with_another_executor_is_refused_with_the_reason(
    deployment: Deployment, pool: Credential, container_engine: Engine
) -> None:
    agent = deployment.cloud.start_agent(pool.token, pool.key, env={"QUAYMASTER_EXECUTOR": "process"})
    assert agent.wait() == 78
    assert "has the executor docker, and this agent has process" in agent.output()


def test_a_host_that_is_configured_with_others_names_only_runs(
    deployment: Deployment, pool: Credential, host: Callable[..., AgentProcess], open_folder: Path
) -> None:
    env = {
        "SPACELIFT_WORKER_EXTRA_MOUNTS": f"{open_folder}:/shared",
        "SPACELIFT_WHITELIST_ENVS": "TEAM",
        "SPACELIFT_MASK_ENVS": "TEAM",
        "SPACELIFT_METADATA_instance_id": "i-1",
        "SPACELIFT_LAUNCHER_LOGS_TIMEOUT": "1000s",
        "SPACELIFT_LAUNCHER_RUN_TIMEOUT": "120m",
        "SPACELIFT_WORKER_IMAGE_PULL": "missing",
        "SPACELIFT_WORKER_CACHE": "no such option",
        "TEAM": "platform-team",
    }
    agent = host(pool, env=env, prefix="SPACELIFT_")
    run = deployment.send(pool.pool_id, "moved", ["sh", "-c", "echo $TEAM; touch /shared/here"])
    found = deployment.wait(run)
    assert deployment.output(found) == ["*****"]
    assert (open_folder / "here").exists()
    (worker,) = deployment.workers(pool.pool_id)
    assert worker["metadata"] == {"instance_id": "i-1"}
    said = agent.output()
    assert "SPACELIFT_TOKEN is read as QUAYMASTER_TOKEN" in said
    assert "SPACELIFT_WORKER_CACHE is no option of the agent" in said


def test_check_tries_all_that_an_agent_needs_and_takes_nothing_on(
    deployment: Deployment, pool: Credential, container_engine: Engine, tmp_path: Path
) -> None:
    let_others_pass(tmp_path)
    environment = {
        **{name: container_engine.environment[name] for name in ("PATH", "DOCKER_HOST", "DOCKER_CONFIG")},
        "QUAYMASTER_TOKEN": pool.token,
        "QUAYMASTER_POOL_PRIVATE_KEY": pool.key,
        "QUAYMASTER_STATE_DIR": str(tmp_path / "state"),
        "QUAYMASTER_DEFAULT_RUNNER_IMAGE": BASE,
    }
    program = Path(sys.executable).with_name("quaymaster-agent")

    def check(*more: str, **other: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "--check", "--count", "2", *more],
            env=environment | other,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = check("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    told = {one["what"]: one["told"] for one in found["findings"]}
    assert "takes the certificate" in told["broker"]
    assert told["store"].endswith("answers")
    assert told["image"].startswith(f"{BASE}: here, but ")
    assert told["engine"].endswith(container_engine.environment["DOCKER_HOST"])
    assert "2 workers of pool" in told["would be"]
    assert "in containers" in told["would be"]
    assert len(found["outbound"]) == 2
    assert deployment.workers(pool.pool_id) == []
    assert check(DOCKER_HOST="unix:///none.sock").returncode == 78
    shown = check()
    assert shown.returncode == 0
    assert "allow outbound (TCP):" in shown.stdout
    assert pool.token not in shown.stdout + shown.stderr


@pytest.mark.parametrize("image", ["127.0.0.1:1/none:1"])
def test_an_image_that_cannot_be_pulled_is_told_with_the_registrys_words(
    deployment: Deployment, host: Callable[..., AgentProcess], image: str
) -> None:
    pool = deployment.create_pool(executor="docker", prepare_timeout="6s")
    host(pool)
    run = deployment.send(pool.pool_id, "none", ["true"], image=image)
    found = deployment.wait(run)
    assert (found["state"], found["reason"]) == ("FAILED", "image_pull")
    assert "connection refused" in found["note"]
    said = [line["msg"] for line in deployment.log(found)]
    assert said[0] == f"pulling image {image}"
    assert any("tried again in" in line for line in said)
    nameless = deployment.send(pool.pool_id, "nameless", ["true"])
    found = deployment.wait(nameless)
    assert (found["reason"], found["note"][:17]) == ("image_pull", "no image is named")
