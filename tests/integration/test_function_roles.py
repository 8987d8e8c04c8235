"""Every function works with its own role and nothing else: what its role lacks is refused, and it says so."""

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError
from quaymaster_local.cloud import LocalCloud
from quaymaster_local.errors import LocalCloudError

from tests.shared.deployed.client import Credential, Deployment, wait_until

OPEN = {"ServeApi": ["list inputs"]}
"""What a role may do of what others may not: a run is asked for once more only if what it had brought is there."""
FUNCTIONS = ("DispatchRuns", "ReceiveWorkerEvents", "ReceiveTaskEvents", "ReapOverdue", "ServeApi")
DENIED = ("AccessDenied", "AccessDeniedException", "Forbidden", "ForbiddenException", "UnauthorizedException")


@pytest.fixture(scope="module")
def deployment(cloud: LocalCloud) -> Iterator[Deployment]:
    with closing(Deployment(cloud)) as running:
        yield running


@pytest.fixture(scope="module")
def pool(deployment: Deployment) -> Credential:
    return deployment.create_pool()


@pytest.fixture(params=FUNCTIONS)
def function(request: pytest.FixtureRequest) -> str:
    return cast("str", request.param)


def role_of(cloud: LocalCloud, function: str) -> str:
    """The name of a function's role."""
    found = cloud.client("lambda").get_function_configuration(FunctionName=cloud.function_name(function))
    return str(found["Role"]).rpartition("/")[2]


def policy_of(cloud: LocalCloud, role: str, word: str) -> str:
    """The ARN of the role's managed policy with this word in its name."""
    attached = cloud.client("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    return next(one["PolicyArn"] for one in attached if word in one["PolicyName"])


@contextmanager
def without(cloud: LocalCloud, function: str, word: str) -> Generator[None]:
    """The function without one of its role's policies."""
    role = role_of(cloud, function)
    arn = policy_of(cloud, role, word)
    cloud.client("iam").detach_role_policy(RoleName=role, PolicyArn=arn)
    try:
        yield
    finally:
        cloud.client("iam").attach_role_policy(RoleName=role, PolicyArn=arn)


class RoleClients:
    """Clients that act as a function does: with its role's credentials."""

    def __init__(self, cloud: LocalCloud, function: str) -> None:
        name = role_of(cloud, function)
        arn = cloud.client("iam").get_role(RoleName=name)["Role"]["Arn"]
        key = cloud.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        self._cloud = cloud
        self._session: Any = boto3.Session(
            key["AccessKeyId"], key["SecretAccessKey"], key["SessionToken"], region_name=cloud.deployment.region
        )

    def client(self, service: str) -> Any:
        """A client with the role's credentials."""
        url = self._cloud.ecs_endpoint_url if service == "ecs" else self._cloud.endpoint_url
        return self._session.client(service, endpoint_url=url)


def event_for(function: str, pool: Credential) -> dict[str, Any]:
    """An event that makes the function use the table, and changes nothing the second time."""
    arn = "arn:aws:ecs:us-east-1:000000000000"
    worker = f"quaymaster.{pool.pool_id}.{'0' * 32}"
    request = {"schema": 1, "pool": pool.pool_id, "command": ["true"], "id": "one"}
    return {
        "DispatchRuns": {
            "Records": [
                {
                    "messageId": "one",
                    "body": json.dumps(request),
                    "attributes": {"SenderId": "AIDA"},
                    "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:quaymaster-requests",
                }
            ]
        },
        "ReceiveWorkerEvents": {
            "clientId": worker,
            "eventType": "disconnected",
            "event": "disconnected",
            "received_at": int(time.time() * 1000),
        },
        "ReceiveTaskEvents": {
            "detail": {
                "lastStatus": "STOPPED",
                "taskArn": f"{arn}:task/quaymaster/0123456789abcdef0123456789abcdef",
                "taskDefinitionArn": f"{arn}:task-definition/quaymaster-pool-{pool.pool_id}:1",
                "startedBy": "nobody",
            }
        },
        "ReapOverdue": {},
        "ServeApi": {
            "version": "2.0",
            "rawPath": f"/pools/{pool.pool_id}",
            "rawQueryString": "",
            "headers": {},
            "requestContext": {"http": {"method": "GET", "path": f"/pools/{pool.pool_id}"}, "stage": "$default"},
            "isBase64Encoded": False,
        },
    }[function]


def works(cloud: LocalCloud, function: str, pool: Credential) -> bool:
    """Whether the function does what it is asked for; false if it is denied something, raises for anything else."""
    try:
        answer = cloud.invoke(function, event_for(function, pool))
    except LocalCloudError as error:
        if "AccessDenied" in str(error):
            return False
        raise
    found = cast("dict[str, Any]", answer or {})
    return not found.get("batchItemFailures") and not found.get("failed") and found.get("statusCode", 200) == 200


def denied(attempt: Callable[[], object]) -> bool:
    """Whether a call is refused for want of a permission; raises for any other refusal."""
    try:
        attempt()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in DENIED:
            return True
        raise
    return False


def test_a_function_works_with_its_own_role(cloud: LocalCloud, function: str, pool: Credential) -> None:
    assert works(cloud, function, pool)


def test_a_function_fails_without_the_table(cloud: LocalCloud, function: str, pool: Credential) -> None:
    with without(cloud, function, "UseTable"):
        assert not works(cloud, function, pool)
    assert works(cloud, function, pool)


def test_a_role_opens_nothing_else(cloud: LocalCloud, function: str, pool: Credential) -> None:
    act_as, outputs = RoleClients(cloud, function), cloud.outputs
    network = {"awsvpcConfiguration": {"subnets": ["subnet-local"]}}
    attempts = {
        "delete the table": lambda: act_as.client("dynamodb").delete_table(TableName=outputs["TableName"]),
        "scan the table": lambda: act_as.client("dynamodb").scan(TableName=outputs["TableName"]),
        "delete a log": lambda: act_as.client("s3").delete_object(Bucket=outputs["BucketName"], Key="logs/a"),
        "list inputs": lambda: act_as.client("s3").list_objects_v2(Bucket=outputs["BucketName"], Prefix="inputs/"),
        "speak for an agent": lambda: act_as.client("iot-data").publish(
            topic=f"{cloud.namespace}/from/{pool.pool_id}/w/registered", payload=b"{}"
        ),
        "read a pool's key": lambda: act_as.client("ssm").get_parameter(
            Name=f"{outputs['SsmPrefix']}/pools/{pool.pool_id}/private-key", WithDecryption=True
        ),
        "invoke a function": lambda: act_as.client("lambda").invoke(FunctionName=cloud.function_name("ServeApi")),
        "purge the queue": lambda: act_as.client("sqs").purge_queue(QueueUrl=outputs["RequestQueueUrl"]),
        "make a role": lambda: act_as.client("iam").create_role(RoleName="more", AssumeRolePolicyDocument="{}"),
        "run the model's task": lambda: act_as.client("ecs").run_task(
            cluster=outputs["ClusterName"],
            taskDefinition=outputs["WorkerTaskDefinitionArn"],
            networkConfiguration=network,
        ),
    }
    assert [what for what, attempt in attempts.items() if not denied(attempt)] == OPEN.get(function, [])


def test_the_api_sees_whether_an_input_is_there_and_not_what_is_in_it(cloud: LocalCloud) -> None:
    s3, bucket = RoleClients(cloud, "ServeApi").client("s3"), cloud.outputs["BucketName"]
    assert denied(lambda: s3.get_object(Bucket=bucket, Key="inputs/a"))


@pytest.mark.parametrize(("policy", "action"), [("RunTasks", "ecs:RunTask"), ("PassWorkerRoles", "iam:PassRole")])
def test_no_task_starts_without_the_permission_and_one_does_with_it(
    cloud: LocalCloud, deployment: Deployment, policy: str, action: str
) -> None:
    own = deployment.create_pool("fargate", max_workers=1)

    def note() -> str:
        return deployment.read(f"/pools/{own.pool_id}")["launch_note"] or ""

    with without(cloud, "DispatchRuns", policy), without(cloud, "ReapOverdue", policy):
        run = deployment.send(own.pool_id, "one", ["true"])
        wait_until(lambda: action in note())
        assert "AccessDenied" in note()
        assert deployment.read(f"/runs/{run}")["state"] == "READY"
    # The pause that the failures have brought is over as soon as somebody says that it is mended.
    assert deployment.call("POST", f"/pools/{own.pool_id}/retry")[0] == 200
    assert deployment.wait(run, seconds=120, reaping=True)["state"] == "FINISHED"
