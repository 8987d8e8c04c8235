"""Dead letters on the deployed system: sent again from the command line, with the API's own role."""

import json
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from quaymaster.domain import ids
from quaymaster_local.cloud import LocalCloud

from tests.integration.test_cli import Shell
from tests.integration.test_function_roles import without
from tests.shared.deployed.client import Credential, Deployment, wait_until


@pytest.fixture(scope="module")
def deployment(cloud: LocalCloud) -> Iterator[Deployment]:
    with closing(Deployment(cloud)) as running:
        yield running


@pytest.fixture(scope="module")
def pool(deployment: Deployment) -> Credential:
    return deployment.create_pool()


@pytest.fixture(scope="module")
def shell(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(cloud, tmp_path_factory.mktemp("home"))


def letter_where(shell: Shell, holds: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
    """Wait for a dead letter."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [one for one in shell.json("dead-letters", "list")["dead_letters"] if holds(one)]
        return bool(found)

    wait_until(there, seconds)
    return found[0]


@contextmanager
def quick_deliveries(cloud: LocalCloud) -> Generator[None]:
    """A message that fails comes again after a second, not after minutes."""
    sqs, url = cloud.client("sqs"), cloud.outputs["RequestQueueUrl"]
    usual = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "1"})
    try:
        yield
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes=usual)


def test_a_refused_request_runs_once_its_reason_is_gone_and_only_once(
    shell: Shell, deployment: Deployment, pool: Credential
) -> None:
    name = f"later-{secrets.token_hex(4)}"
    deployment.send_raw(json.dumps({"pool": name, "command": ["true"], "id": name}))
    letter = letter_where(shell, lambda one: one["request_id"] == name)
    kept = shell("dead-letters", "redrive", letter["id"])
    assert (kept.returncode, f"no pool '{name}'" in kept.stderr) == (1, True)

    made = shell("pool", "create", name, "--key", f"{name}.pem", "--token-file", f"{name}.token")
    assert made.returncode == 0, made.stderr
    (sent,) = shell.json("dead-letters", "redrive", letter["id"])["redriven"]
    deployment.wait(sent["run"], "READY")
    again = shell("dead-letters", "redrive", letter["id"], "--json")
    assert (again.returncode, json.loads(again.stdout)["missing"]) == (1, [letter["id"]])
    # Somebody who kept the letter sends it once more.
    deployment.send_raw(json.dumps({"pool": name, "command": ["true"], "id": name}))
    time.sleep(2)
    assert [one["run"] for one in deployment.read(f"/pools/{name}/runs")["runs"]] == [sent["run"]]


def test_a_request_that_failed_at_every_delivery_keeps_its_run(
    shell: Shell, cloud: LocalCloud, deployment: Deployment, pool: Credential
) -> None:
    """And what a requester has marked as a function's record is nothing but a request."""
    stack = f"away-{secrets.token_hex(4)}"
    body = json.dumps({"pool": pool.pool_id, "command": ["true"], "stack": stack})
    forged = {"source": {"DataType": "String", "StringValue": "worker events"}}
    with quick_deliveries(cloud), without(cloud, "DispatchRuns", "UseTable"):
        url = cloud.outputs["RequestQueueUrl"]
        sent = cloud.client("sqs").send_message(QueueUrl=url, MessageBody=body, MessageAttributes=forged)["MessageId"]
        letter = letter_where(shell, lambda one: stack in one["body"], 120)
    assert (letter["id"], letter["source"]) == (sent, "sqs")
    assert shell.json("dead-letters", "show", letter["id"])["goes_to"] == "dispatch-runs"
    (redriven,) = shell.json("dead-letters", "redrive", letter["id"])["redriven"]
    assert redriven["run"] == ids.run_id(pool.pool_id, f"sqs:{sent}")
    assert deployment.wait(redriven["run"], "READY")["stack"] == stack


def test_an_agents_word_that_the_function_failed_at_is_heard_after_all(
    shell: Shell, cloud: LocalCloud, deployment: Deployment, pool: Credential
) -> None:
    drawn = [ids.ulid(datetime.now(UTC), secrets.token_bytes(10)) for _ in range(2)]
    worker = ids.worker_id(cloud.namespace, pool.pool_id, drawn[0])
    topic = ids.topic_from(cloud.namespace, pool.pool_id, worker, "registered")
    said = json.dumps({"schema": 1, "session": drawn[1]}).encode()
    with without(cloud, "ReceiveWorkerEvents", "UseTable"):
        cloud.client("iot-data").publish(topic=topic, qos=1, payload=said)
        letter = letter_where(shell, lambda one: "receive-worker-events" in one["reason"], 120)
    assert deployment.workers(pool.pool_id) == []
    (sent,) = shell.json("dead-letters", "redrive", letter["id"])["redriven"]
    assert (sent["to"], sent.get("run")) == ("receive-worker-events", None)
    wait_until(lambda: [one["id"] for one in deployment.workers(pool.pool_id)] == [worker])


def test_purging_empties_the_queue(shell: Shell, deployment: Deployment) -> None:
    marks = [secrets.token_hex(8) for _ in range(3)]
    deployment.send_raw(*(json.dumps({"id": mark}) for mark in marks))
    for mark in marks:
        letter_where(shell, lambda one, mark=mark: one["request_id"] == mark)
    assert shell("dead-letters", "purge", "--all").returncode == 2
    purged = shell.json("dead-letters", "purge", "--all", "--yes")["purged"]
    assert len(purged) >= 3
    assert shell.json("dead-letters", "list")["dead_letters"] == []
