"""Who may send requests and who may use the API: whoever has the stack's policy for it, and nobody else."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session
from quaymaster.domain.ids import run_id
from quaymaster_local.cloud import LocalCloud

from tests.shared.deployed.client import Deployment


@dataclass(frozen=True, kw_only=True)
class User:
    """An IAM user of the local cloud."""

    cloud: LocalCloud
    id: str
    arn: str
    key: str
    secret: str

    def client(self, service: str) -> Any:
        session = boto3.Session(self.key, self.secret, region_name=self.cloud.deployment.region)
        return cast(Any, session).client(service, endpoint_url=self.cloud.endpoint_url)

    def get(self, path: str) -> int:
        """The status of the API's answer to a signed GET."""
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> int:
        """The status of the API's answer to a signed request."""
        data, headers = (json.dumps(body), {"content-type": "application/json"}) if body else (None, {})
        request = AWSRequest(method=method, url=self.cloud.api_url.rstrip("/") + path, data=data, headers=headers)
        SigV4Auth(Credentials(self.key, self.secret), "lambda", self.cloud.deployment.region).add_auth(request)
        return URLLib3Session().send(request.prepare()).status_code


@pytest.fixture
def new_user(cloud: LocalCloud) -> Iterator[Callable[[str | None], User]]:
    """Makes users with one attached policy, or none."""
    iam = cloud.client("iam")
    made: list[tuple[str, str, str | None]] = []

    def make(policy: str | None) -> User:
        name = f"user-{uuid.uuid4()}"
        user = iam.create_user(UserName=name)["User"]
        key = iam.create_access_key(UserName=name)["AccessKey"]
        if policy:
            iam.attach_user_policy(UserName=name, PolicyArn=policy)
        made.append((name, key["AccessKeyId"], policy))
        return User(
            cloud=cloud, id=user["UserId"], arn=user["Arn"], key=key["AccessKeyId"], secret=key["SecretAccessKey"]
        )

    yield make
    for name, key, policy in made:
        if policy:
            iam.detach_user_policy(UserName=name, PolicyArn=policy)
        iam.delete_access_key(UserName=name, AccessKeyId=key)
        iam.delete_user(UserName=name)


@pytest.fixture
def requester(cloud: LocalCloud, new_user: Callable[[str | None], User]) -> User:
    return new_user(cloud.outputs["RequesterPolicyArn"])


@pytest.fixture
def api_user(cloud: LocalCloud, new_user: Callable[[str | None], User]) -> User:
    return new_user(cloud.outputs["ApiPolicyArn"])


@pytest.fixture
def stranger(new_user: Callable[[str | None], User]) -> User:
    return new_user(None)


def test_a_requester_reaches_the_queue_and_not_the_api(cloud: LocalCloud, requester: User) -> None:
    sent = requester.client("sqs").send_message(QueueUrl=cloud.outputs["RequestQueueUrl"], MessageBody="not a request")
    assert sent["MessageId"]
    assert requester.get("/pools") == 403


def test_a_user_of_the_api_reaches_it_and_not_the_function_nor_the_queue(cloud: LocalCloud, api_user: User) -> None:
    assert api_user.get("/pools") == 200
    with pytest.raises(ClientError, match="AccessDenied"):
        api_user.client("lambda").invoke(FunctionName=cloud.function_name("ServeApi"), Payload=b"{}")
    with pytest.raises(ClientError, match="AccessDenied"):
        api_user.client("sqs").send_message(QueueUrl=cloud.outputs["RequestQueueUrl"], MessageBody="{}")


def test_a_requester_sends_over_mqtt_what_requests_are_and_nothing_else(cloud: LocalCloud, requester: User) -> None:
    iot = requester.client("iot-data")
    own = f"{cloud.namespace}/requests/{requester.id}"
    iot.publish(topic=own, qos=1, payload=b"not a request")
    others = f"{cloud.namespace}/requests/someone", f"{own}0", f"{own}/x", f"{cloud.namespace}/replies/{requester.id}"
    for topic in (*others, f"{cloud.namespace}/to/P/W", f"{cloud.namespace}/from/P/W/registered"):
        with pytest.raises(ClientError, match=r"Forbidden|AccessDenied|403"):
            iot.publish(topic=topic, qos=1, payload=b"{}")


def test_a_requester_writes_nothing_where_only_the_rule_and_the_functions_do(
    cloud: LocalCloud, requester: User
) -> None:
    internal = cloud.outputs["InternalQueueUrl"]
    with pytest.raises(ClientError, match="AccessDenied"):
        requester.client("sqs").send_message(QueueUrl=internal, MessageBody="{}")


def test_who_asked_is_told_by_the_way_a_request_came(cloud: LocalCloud, requester: User, api_user: User) -> None:
    with closing(Deployment(cloud)) as deployment:
        pool = deployment.create_pool()
        ask = {"schema": 1, "pool": pool.pool_id, "command": ["true"]}
        requester.client("sqs").send_message(
            QueueUrl=cloud.outputs["RequestQueueUrl"], MessageBody=json.dumps({**ask, "id": "by-sqs"})
        )
        requester.client("iot-data").publish(
            topic=f"{cloud.namespace}/requests/{requester.id}", qos=1, payload=json.dumps({**ask, "id": "by-mqtt"})
        )
        assert api_user.call("POST", "/runs", {**ask, "id": "by-api"}) == 202
        found = [deployment.wait(run_id(pool.pool_id, name), "READY") for name in ("by-sqs", "by-mqtt", "by-api")]
    assert [(run["history"][0]["by"], run["requester"]) for run in found] == [
        ("sqs", requester.id),
        ("mqtt", requester.id),
        ("api", api_user.arn),
    ]


def test_a_requester_cannot_touch_what_lies_behind(cloud: LocalCloud, requester: User) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        requester.client("sqs").receive_message(QueueUrl=cloud.outputs["RequestQueueUrl"])
    with pytest.raises(ClientError, match="AccessDenied"):
        requester.client("dynamodb").get_item(
            TableName=cloud.outputs["TableName"], Key={"pk": {"S": "pools"}, "sk": {"S": "pool"}}
        )
    with pytest.raises(ClientError, match="AccessDenied"):
        requester.client("lambda").invoke(FunctionName=cloud.function_name("ServeApi"), Payload=b"{}")


def test_a_stranger_reaches_nothing(cloud: LocalCloud, stranger: User) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        stranger.client("sqs").send_message(QueueUrl=cloud.outputs["RequestQueueUrl"], MessageBody="{}")
    assert stranger.get("/pools") == 403
