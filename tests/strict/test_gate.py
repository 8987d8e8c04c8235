"""Each rule of the gate can fail, and what AWS takes passes it."""

import base64
from pathlib import Path
from typing import Any

import pytest
from botocore.client import ClientError
from botocore.session import Session

from tests.strict import hook
from tests.strict.finding import RULES, Findings
from tests.strict.gate import judge
from tests.strict.others import check_form, check_presigned

KEY = {"pk": {"S": "a"}, "sk": {"S": "b"}}
VALUES = {":p": {"S": "x"}}
QUERY = {"TableName": "table", "KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": VALUES}
BODY = {"QueueUrl": "https://q", "MessageBody": "a"}
FARGATE = {"family": "f", "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256",
           "memory": "512", "containerDefinitions": [{"name": "c", "image": "i"}]}  # fmt: skip


def put(**attributes: Any) -> dict[str, Any]:
    return {"TableName": "table", "Item": {**KEY, **attributes}}


def deep(levels: int) -> dict[str, Any]:
    return {"S": "x"} if levels < 2 else {"L": [deep(levels - 1)]}


def deletes(count: int, distinct: bool = True) -> dict[str, Any]:
    keys = [{**KEY, "sk": {"S": str(number if distinct else 0)}} for number in range(count)]
    return {"TransactItems": [{"Delete": {"TableName": "table", "Key": key}} for key in keys]}


def policy(resource: str) -> dict[str, Any]:
    document = f'{{"Statement": [{{"Effect": "Allow", "Action": "iot:Connect", "Resource": "{resource}"}}]}}'
    return {"policyName": "p", "policyDocument": document}


BAD: list[tuple[str, str, str, dict[str, Any]]] = [
    ("member", "sqs", "SendMessage", {**BODY, "Colour": "red"}),
    ("required", "dynamodb", "GetItem", {"TableName": "table"}),
    ("integer", "dynamodb", "Query", {**QUERY, "Limit": 1 << 62}),
    ("integer", "dynamodb", "Query", {**QUERY, "Limit": 1 << 31}),
    ("range", "dynamodb", "Query", {**QUERY, "Limit": 0}),
    ("range", "iot", "CreateCertificateFromCsr", {"certificateSigningRequest": "x" * 4097}),
    ("pattern", "lambda", "Invoke", {"FunctionName": "f g"}),
    ("enumeration", "ecs", "RunTask", {"taskDefinition": "t", "launchType": "SPACE"}),
    ("unicode", "dynamodb", "PutItem", put(x={"S": "\ud800"})),
    ("number", "dynamodb", "PutItem", put(n={"N": "1" * 39})),
    ("number", "dynamodb", "PutItem", put(n={"N": "many"})),
    ("number", "dynamodb", "PutItem", put(n={"N": "1e127"})),
    ("set", "dynamodb", "PutItem", put(s={"SS": []})),
    ("nesting", "dynamodb", "PutItem", put(d=deep(34))),
    ("item", "dynamodb", "PutItem", put(x={"S": "é" * 205_000})),
    ("key", "dynamodb", "PutItem", put(sk={"S": ""})),
    ("key", "dynamodb", "PutItem", put(due_at={"S": "1"})),
    ("key", "dynamodb", "PutItem", put(pk={"S": "x" * 2049})),
    ("expression", "dynamodb", "PutItem", {**put(), "ConditionExpression": " "}),
    ("expression", "dynamodb", "PutItem", {**put(), "ExpressionAttributeNames": {}}),
    ("placeholder", "dynamodb", "Query", {**QUERY, "ExpressionAttributeValues": {**VALUES, ":q": {"S": "y"}}}),
    ("placeholder", "dynamodb", "Query", {**QUERY, "KeyConditionExpression": "pk = :p AND sk = :q"}),
    ("reserved", "dynamodb", "Query", {**QUERY, "KeyConditionExpression": "state = :p"}),
    ("key condition", "dynamodb", "Query", {**QUERY, "KeyConditionExpression": "pk <> :p"}),
    ("consistent", "dynamodb", "Query", {**QUERY, "IndexName": "due", "ConsistentRead": True}),
    ("transaction", "dynamodb", "TransactWriteItems", deletes(101)),
    ("transaction", "dynamodb", "TransactWriteItems", deletes(2, distinct=False)),
    ("batch", "dynamodb", "BatchGetItem", {"RequestItems": {"table": {"Keys": [KEY, KEY]}}}),
    ("character", "sqs", "SendMessage", {**BODY, "MessageBody": "a\x01"}),
    ("character", "sqs", "SendMessage", {**BODY, "MessageBody": "a\ufffe"}),
    ("message", "sqs", "SendMessage", {**BODY, "MessageBody": "é" * (1 << 20)}),
    ("message", "sqs", "SendMessage", {**BODY, "MessageBody": ""}),
    ("attribute", "sqs", "SendMessage", {**BODY, "MessageAttributes": {"r": {"DataType": "String"}}}),
    ("entries", "sqs", "SendMessageBatch", {"QueueUrl": "https://q", "Entries": [{"Id": "a.b", "MessageBody": "x"}]}),
    ("span", "sqs", "SendMessage", {**BODY, "DelaySeconds": 901}),
    ("span", "sqs", "ReceiveMessage", {"QueueUrl": "https://q", "MaxNumberOfMessages": 11}),
    ("topic", "iot-data", "Publish", {"topic": "a/b/c/d/e/f/g/h/i"}),
    ("topic", "iot-data", "Publish", {"topic": "é" * 200}),
    ("payload", "iot-data", "Publish", {"topic": "a", "payload": b"x" * (128 * 1024 + 1)}),
    ("expiry", "iot-data", "Publish", {"topic": "a", "messageExpiry": 0}),
    ("policy", "iot", "CreatePolicy", policy("client/one")),
    ("policy", "iot", "CreatePolicy", policy("arn:aws:iot:us-east-1:1:client/" + "x" * 2048)),
    ("task", "ecs", "RunTask", {"taskDefinition": "t", "count": 11}),
    ("task", "ecs", "RunTask", {"taskDefinition": "t", "clientToken": "x" * 65}),
    ("task", "ecs", "RunTask", {"taskDefinition": "t", "startedBy": "a.b"}),
    ("task", "ecs", "RunTask", {"taskDefinition": "t", "launchType": "FARGATE"}),
    ("overrides", "ecs", "RunTask", {"taskDefinition": "t", "overrides": {"taskRoleArn": "x" * 8192}}),
    ("reason", "ecs", "StopTask", {"task": "t", "reason": "x" * 256}),
    ("tasks", "ecs", "DescribeTasks", {"tasks": ["t"] * 101}),
    ("tasks", "ecs", "ListTasks", {"startedBy": "x", "desiredStatus": "STOPPED"}),
    ("definition", "ecs", "RegisterTaskDefinition", {**FARGATE, "cpu": "300"}),
    ("definition", "ecs", "RegisterTaskDefinition", {**FARGATE, "pidMode": ""}),
    ("object", "s3", "PutObject", {"Bucket": "bucket", "Key": "é" * 600}),
    ("parameter", "ssm", "GetParameter", {"Name": "/a b"}),
    ("parameter", "ssm", "PutParameter", {"Name": "/a", "Value": "x" * 4097}),
    ("event", "lambda", "Invoke", {"FunctionName": "f", "Payload": b"{"}),
    ("event", "lambda", "Invoke", {"FunctionName": "f", "InvocationType": "Event", "Payload": b"1" * (1 << 20) + b"1"}),
]  # fmt: skip
GOOD: list[tuple[str, str, dict[str, Any]]] = [
    ("dynamodb", "Query", {**QUERY, "Limit": 100, "ConsistentRead": True}),
    ("dynamodb", "PutItem", put(x={"S": ""}, due_at={"N": "1700000000000"}, n={"N": "-1.5e3"})),
    ("dynamodb", "TransactWriteItems", deletes(100)),
    ("sqs", "SendMessage", {**BODY, "MessageBody": "a\u00e9\U0001f600\n", "DelaySeconds": 900}),
    ("iot-data", "Publish", {"topic": "ns/to/P/ns.P.w", "qos": 1, "payload": b"x", "messageExpiry": 15}),
    ("iot", "CreatePolicy", policy("arn:aws:iot:us-east-1:1:client/ns.*")),
    ("ecs", "RegisterTaskDefinition", FARGATE),
    ("ssm", "GetParameter", {"Name": "/quaymaster/one/token"}),
    ("lambda", "Invoke", {"FunctionName": "f", "Payload": b"{}"}),
]


@pytest.fixture(scope="module")
def models() -> Session:
    return Session()


def nothing(*_: object) -> dict[str, Any]:
    return {}


def rules_broken(models: Session, service: str, operation: str, request: dict[str, Any]) -> set[str]:
    return {found.rule for found in judge(models.get_service_model(service), operation, request)}


@pytest.mark.parametrize(("rule", "service", "operation", "request_"), BAD)
def test_what_aws_refuses_is_refused_by_its_rule(
    models: Session, rule: str, service: str, operation: str, request_: dict[str, Any]
):
    assert rule in rules_broken(models, service, operation, request_)


@pytest.mark.parametrize(("service", "operation", "request_"), GOOD)
def test_what_aws_takes_is_taken(models: Session, service: str, operation: str, request_: dict[str, Any]):
    assert rules_broken(models, service, operation, request_) == set()


def test_every_rule_can_fail():
    assert {rule for rule, *_ in BAD} | {"form"} == set(RULES)


def test_presigned_requests_are_judged_where_they_are_signed():
    findings = Findings()
    check_presigned(7 * 86_400 + 1, findings)
    check_form(
        {"key": "k", "Content-Type": "x", "policy": "p"}, [["starts-with", "$key", ""], {"bucket": "b"}], findings
    )
    assert [(found.rule, found.path) for found in findings.found] == [("object", "expires"), ("form", "Content-Type")]


def test_a_call_of_the_product_is_refused_and_fails_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As in a function of the local cloud, where every call is the product's."""
    monkeypatch.setattr(hook, "product_frames", lambda: ["here"])
    record = hook.Record(str(tmp_path / "strict"))
    (tmp_path / "strict").mkdir()
    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", nothing)
    hook.put_before_clients(record)
    client: Any = Session().create_client("sqs", "us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
    client.send_message(**BODY)
    assert hook.problems(tmp_path) == []
    secret = base64.b16encode(b"secret").decode()
    with pytest.raises(ClientError, match="character"):
        client.send_message(**{**BODY, "MessageBody": secret + "\x01"})
    (problem,) = hook.problems(tmp_path)
    assert "sqs SendMessage" in problem
    assert secret not in problem


def test_functions_of_which_no_call_was_seen_fail_the_session(tmp_path: Path):
    for folder in ("strict", "cloud"):
        (tmp_path / folder).mkdir()
    assert len(hook.problems(tmp_path)) == 1
