"""Requests over MQTT: they join those over SQS, and whoever asks for it hears what became of them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from quaymaster.domain.ids import run_id
from quaymaster_local.cloud import LocalCloud

from tests.shared.deployed.client import Credential, Deployment
from tests.shared.deployed.impostor import Client, Identity


@pytest.fixture(scope="module")
def deployment(cloud: LocalCloud) -> Iterator[Deployment]:
    with closing(Deployment(cloud)) as running:
        yield running


@pytest.fixture(scope="module")
def pool(deployment: Deployment) -> Credential:
    return deployment.create_pool(max_log_timeout="10m")


@pytest.fixture(scope="module")
def requester(cloud: LocalCloud) -> Iterator[Client]:
    """A client with a certificate of its own, allowed what the stack's RequesterPolicy allows."""
    iot, namespace = cloud.client("iot"), cloud.namespace
    made = iot.create_keys_and_certificate(setAsActive=True)
    here = made["certificateArn"].rpartition(":")[0]
    name = f"{namespace}-requester-ci"
    allowed = {
        "iot:Connect": f"{here}:client/{name}",
        "iot:Publish": f"{here}:topic/{namespace}/requests/*",
        "iot:Subscribe": f"{here}:topicfilter/{namespace}/replies/*",
        "iot:Receive": f"{here}:topic/{namespace}/replies/*",
    }
    statements = [{"Effect": "Allow", "Action": action, "Resource": arn} for action, arn in allowed.items()]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iot.create_policy(policyName=name, policyDocument=policy)
    iot.attach_policy(policyName=name, target=made["certificateArn"])
    identity = Identity(
        client_id=name,
        certificate=made["certificatePem"],
        key=made["keyPair"]["PrivateKey"],
        topics=[f"{namespace}/replies/#"],
    )
    with Client(cloud, identity) as client:
        yield client


def ask(requester: Client, pool: Credential, request_id: str, fields: Mapping[str, Any] | None = None) -> None:
    """Publish a request that wants its answer on the client's own topic."""
    plain = {"schema": 1, "pool": pool.pool_id, "command": ["true"], "reply_to": "quaymaster/replies/ci"}
    body = {**plain, "id": request_id, **(fields or {})}
    requester.publish("quaymaster/requests/ci", json.dumps(body).encode())


def test_an_accepted_request_is_answered_with_its_run(requester: Client, pool: Credential) -> None:
    ask(requester, pool, "good")
    answer = requester.hear(id="good")
    assert (answer["accepted"], answer["run"]) == (True, run_id(pool.pool_id, "good"))
    assert answer["state"] == "READY"


def test_the_same_request_again_is_answered_with_the_run_that_exists(requester: Client, pool: Credential) -> None:
    ask(requester, pool, "same")
    first = requester.hear(id="same")
    ask(requester, pool, "same")
    assert requester.hear(id="same", count=2)["run"] == first["run"]


@pytest.mark.parametrize(
    ("request_id", "wrong", "word"),
    [
        ("duration", {"log_timeout": "7 minutes"}, "log_timeout"),
        ("maximum", {"log_timeout": "11m"}, "allows at most"),
        ("empty", {"command": []}, "command"),
        ("stranger", {"pool": "no-such-pool"}, "no-such-pool"),
        ("future", {"schema": 99}, "schema"),
    ],
)
def test_a_malformed_request_is_refused_with_its_field(
    deployment: Deployment, requester: Client, pool: Credential, request_id: str, wrong: dict[str, Any], word: str
) -> None:
    ask(requester, pool, request_id, wrong)
    answer = requester.hear(id=request_id)
    assert not answer["accepted"]
    assert word in answer["error"]
    assert word in deployment.refusals(word)[word]


def test_nobody_is_answered_on_a_topic_of_somebody_else(
    deployment: Deployment, requester: Client, pool: Credential
) -> None:
    ask(requester, pool, "thief", {"reply_to": "quaymaster/replies/another"})
    allowed = "replies/ci"
    reason = deployment.refusals(allowed)[allowed]
    assert reason.startswith("reply_to")
    assert deployment.run(run_id(pool.pool_id, "thief")) is None
    assert not requester.heard(id="thief")


def test_how_a_run_ended_is_told_to_whoever_asked_for_that(
    deployment: Deployment, requester: Client, cloud: LocalCloud
) -> None:
    pool = deployment.create_pool()
    ask(requester, pool, "waits", {"reply_on": "ended"})
    run = run_id(pool.pool_id, "waits")
    deployment.wait(run, "READY")
    assert not requester.heard(id="waits")
    status, _ = deployment.call("POST", f"/runs/{run}/cancel", {"note": "not needed"})
    assert status == 200
    answer = requester.hear(id="waits")
    assert (answer["kind"], answer["state"], answer["reason"], answer["note"]) == (
        "ended", "CANCELED", "by_user", "not needed",
    )  # fmt: skip
    cloud.start_agent(pool.token, pool.key)
    ask(requester, pool, "fails", {"reply_on": "both", "command": ["sh", "-c", "echo here; exit 3"]})
    assert requester.hear(id="fails")["accepted"]
    answer = requester.hear(id="fails", count=2)
    assert (answer["kind"], answer["state"], answer["exit_code"]) == ("ended", "FAILED", 3)
    found = deployment.wait(answer["run"])
    assert answer["log"] == found["log"]["key"]
    assert deployment.output(found) == ["here"]


def test_what_is_no_json_is_kept_as_a_dead_letter(deployment: Deployment, requester: Client) -> None:
    requester.publish("quaymaster/requests/ci", b"\xff\xfe nonsense")
    assert deployment.refusals("a JSON object")
