"""The worker's image: built by a real engine, and run as a worker of the local cloud."""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.shared.cloudformation import REPOSITORY
from tests.shared.deployed.client import Credential, Deployment, wait_until
from tests.shared.deployed.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.local]

IMAGE = "quaymaster-worker-under-test"
MOST_BESIDE_THE_BASE = 200_000_000
"""Bytes of the agent with git and ssh, which bring Perl."""
FILES = """
import hashlib, os
whole = hashlib.sha256()
for folder, folders, names in os.walk("/opt/quaymaster"):
    folders.sort()
    for name in sorted(names):
        path = os.path.join(folder, name)
        whole.update(path.encode() + str(os.lstat(path).st_mode).encode())
        whole.update(os.readlink(path).encode() if os.path.islink(path) else open(path, "rb").read())
print(whole.hexdigest())
"""
# What a phase tries that would give it more than its run: each line says what came of it.
PRYING = """
echo uid $(id -u)
cat /proc/1/environ > /dev/null 2>&1 && echo environment read || echo environment closed
env | grep -c -e QUAYMASTER_TOKEN -e PRIVATE_KEY
find / -xdev -name 'state*.json' -readable 2> /dev/null | wc -l
touch /opt/quaymaster/here 2> /dev/null && echo agent changed || echo agent closed
kill -0 1 2> /dev/null && echo agent signalled || echo agent out of reach
git --version > /dev/null && echo git
"""


@pytest.fixture(scope="module")
def engine(container_engine: Engine) -> Engine:
    """An engine with the image in it."""
    container_engine.build(REPOSITORY / "worker" / "Dockerfile", REPOSITORY / "dist", IMAGE)
    return container_engine


@pytest.fixture
def worker(engine: Engine, deployment: Deployment, pool: Credential) -> Iterator[str]:
    """A container of the image that is a worker of the pool."""
    name = f"quaymaster-{uuid4().hex[:8]}"
    key = ["--env", f"QUAYMASTER_TOKEN={pool.token}", "--env", f"QUAYMASTER_POOL_PRIVATE_KEY={pool.key}"]
    engine.docker("run", "--detach", "--init", "--network", "host", "--name", name, *key, IMAGE)
    try:
        deployment.wait_workers(pool.pool_id, 1)
        yield name
    finally:
        engine.docker("rm", "--force", name)


@pytest.fixture
def pool(deployment: Deployment) -> Credential:
    return deployment.create_pool()


def test_the_agent_in_the_image_runs_what_it_is_given_and_keeps_what_is_its_own(
    engine: Engine, deployment: Deployment, pool: Credential, worker: str
) -> None:
    run = deployment.send(pool.pool_id, "pry", ["sh", "-c", PRYING])
    found = deployment.wait(run)
    assert found["state"] == "FINISHED", found
    uid, *rest = deployment.output(found)
    assert int(uid.removeprefix("uid ")) > 60_000
    assert rest == ["environment closed", "0", "0", "agent closed", "agent out of reach", "git"]
    engine.docker("stop", "--time", "30", worker)
    # It has said goodbye, and ended well.
    wait_until(lambda: [one["note"] for one in deployment.workers(pool.pool_id)] == ["said goodbye"])
    state = json.loads(engine.docker("inspect", worker).stdout)[0]["State"]
    assert state["ExitCode"] == 0, engine.docker("logs", worker).stderr


def test_a_container_that_is_killed_takes_its_phase_along_and_the_run_is_told_as_lost(
    engine: Engine, deployment: Deployment, pool: Credential, worker: str
) -> None:
    run = deployment.send(pool.pool_id, "long", ["sleep", "300"])
    deployment.wait(run, "RUNNING")
    engine.docker("kill", worker)
    found = deployment.wait(run, reaping=True)
    assert (found["state"], found["reason"]) == ("FAILED", "worker_lost")


def test_a_task_definition_that_lacks_the_key_ends_the_container_with_a_sentence(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "--network", "none", IMAGE, check=False)
    assert done.returncode == 78
    assert "QUAYMASTER_TOKEN" in done.stderr


def test_the_image_is_small_and_two_builds_hold_the_same_files(engine: Engine) -> None:
    engine.build(REPOSITORY / "worker" / "Dockerfile", REPOSITORY / "dist", f"{IMAGE}-again", "--no-cache")
    digests = {
        engine.docker("run", "--rm", "--network", "none", "--entrypoint", "python3", image, "-c", FILES).stdout
        for image in (IMAGE, f"{IMAGE}-again")
    }
    assert len(digests) == 1
    layers = json.loads(engine.docker("inspect", IMAGE).stdout)[0]["RootFS"]["Layers"]
    assert len(layers) <= 8
    sizes = engine.docker("history", "--human=false", "--format", "{{.Size}}", IMAGE).stdout.split()
    base = max(map(int, sizes))
    assert sum(map(int, sizes)) - base < MOST_BESIDE_THE_BASE


def test_the_base_is_pinned_by_digest_and_no_line_names_a_processor() -> None:
    file = (REPOSITORY / "worker" / "Dockerfile").read_text()
    (pinned,) = [line for line in file.splitlines() if line.startswith("ARG BASE=")]
    assert "@sha256:" in pinned
    assert not [word for word in ("amd64", "x86", "arm64", "aarch64", "--platform") if word in file]
    assert {line.split()[1] for line in file.splitlines() if line.startswith("FROM ")} == {"${BASE}"}
