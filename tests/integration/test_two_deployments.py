"""Two deployments live in one account and region: they share no name, no queue, no topic and no permission."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from quaymaster_local.aws import RootClients
from quaymaster_local.build import build
from quaymaster_local.cloud import LocalCloud
from quaymaster_local.settings import Settings
from quaymaster_local.stack import Stack, StackRequest, deploy, network

NAMESPACE = "south"


@pytest.fixture(scope="module")
def south(cloud: LocalCloud, local_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A second deployment beside the first, in the same local cloud."""
    folder: Path = tmp_path_factory.mktemp("south")
    clients = RootClients(cloud.endpoint_url)
    request = StackRequest(
        template=build(local_settings),
        name=NAMESPACE,
        parameters={"Namespace": NAMESPACE, "EcsEndpoint": cloud.ecs_endpoint_url, **network(clients)},
        log=folder / "deploy.log",
        folder=folder,
    )
    yield deploy(local_settings, clients, request)
    clients.client("cloudformation").delete_stack(StackName=NAMESPACE)


def dead_letters(cloud: LocalCloud, url: str) -> str:
    """The bodies of what lies in a dead-letter queue, which stays there."""
    answer = cloud.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    return "\n".join(message["Body"] for message in answer.get("Messages", []))


def test_each_hears_its_own_requests_only(cloud: LocalCloud, south: Stack) -> None:
    client = f"client-{uuid.uuid4()}"
    cloud.client("iot-data").publish(topic=f"{NAMESPACE}/requests/{client}", qos=1, payload=b"not a request")
    deadline = time.monotonic() + 60
    while client not in dead_letters(cloud, south.outputs["DeadLetterQueueUrl"]):
        assert time.monotonic() < deadline, "the request was not refused by the deployment that it was sent to"
        time.sleep(0.2)
    assert client not in dead_letters(cloud, cloud.outputs["DeadLetterQueueUrl"])


def test_they_share_no_output_but_what_the_account_shares(cloud: LocalCloud, south: Stack) -> None:
    assert set(south.outputs) == set(cloud.outputs)
    assert not [name for name, value in south.outputs.items() if value == cloud.outputs[name]]


def test_neither_may_touch_the_others(cloud: LocalCloud, south: Stack) -> None:
    arn = cloud.client("lambda").get_function_configuration(FunctionName=south.functions["DispatchRuns"])["Role"]
    account, region = arn.split(":")[4], cloud.deployment.region
    theirs = {
        "dynamodb:PutItem": f"arn:aws:dynamodb:{region}:{account}:table/{{}}",
        "iot:Publish": f"arn:aws:iot:{region}:{account}:topic/{{}}/to/P/W",
        "sqs:ReceiveMessage": f"arn:aws:sqs:{region}:{account}:{{}}-requests",
        "s3:PutObject": f"arn:aws:s3:::{{}}-{account}-{region}/chunks/P/R/000001/perform-00000001.ndjson.gz",
    }
    for action, resource in theirs.items():
        decisions = {
            namespace: cloud.client("iam").simulate_principal_policy(
                PolicySourceArn=arn, ActionNames=[action], ResourceArns=[resource.format(namespace)]
            )["EvaluationResults"][0]["EvalDecision"]
            for namespace in (NAMESPACE, cloud.namespace)
        }
        assert decisions == {NAMESPACE: "allowed", cloud.namespace: "implicitDeny"}, action
