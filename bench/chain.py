"""The yardstick of latency: the same chain of AWS calls with nothing of ours in it.

A queue, a function that reads, writes and publishes with bare botocore, and a subscriber over MQTT: what it takes from
SendMessage to the message is what the services take, whatever anyone builds of them. The calls, the number of items,
their conditions and indexes, and the message's size are those of a dispatch; queue, function and subscriber are set up
as the deployment's.
"""

import io
import json
import time
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from awscrt import mqtt5  # pyright: ignore[reportMissingTypeStubs]
from quaymaster_local.cloud import LocalCloud

from tests.shared.deployed.client import Credential
from tests.shared.deployed.impostor import Impostor
from tests.shared.deployed.tables import own_table

NAME = "bench-chain"
MESSAGE_BYTES = 6_000
"""About what an assignment has, most of it presigned requests."""
SECONDS = 60
HANDLER = """
import json
import botocore.session

session = botocore.session.Session()
table, broker = session.create_client("dynamodb"), session.create_client("iot-data")


def put(pk, sk, condition="attribute_not_exists(pk)", **indexed):
    item = {"pk": {"S": pk}, "sk": {"S": sk}, "body": {"S": "x" * 400}, **indexed}
    return {"Put": {"TableName": "TABLE", "Item": item, "ConditionExpression": condition}}


def handler(event, context):
    for record in event["Records"]:
        number = json.loads(record["body"])["number"]
        (idle,) = table.query(
            TableName="TABLE",
            ConsistentRead=True,
            Limit=50,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            ExpressionAttributeValues={":pk": {"S": "pool"}, ":prefix": {"S": "idle#"}},
        )["Items"]
        key, there = {name: idle[name] for name in ("pk", "sk")}, "attribute_exists(pk)"
        writes = [{"Delete": {"TableName": "TABLE", "Key": key, "ConditionExpression": there}}]
        listed = {"listing_pk": {"S": "pool"}, "listing_at": {"S": str(number)}}
        due = {"due_pk": {"S": "due"}, "due_at": {"N": str(number)}}
        writes += [put(f"run-{number}", "run", **listed, **due), put(f"run-{number}", "spec")]
        writes += [put("pool", "worker", "attribute_exists(pk) OR attribute_not_exists(pk)")]
        table.transact_write_items(TransactItems=writes)
        message = {"number": number, "body": "x" * SIZE}
        broker.publish(topic="TOPIC", qos=1, payload=json.dumps(message).encode())
    return {"batchItemFailures": []}
"""
ALLOWED = ["sqs:*", "logs:*", "dynamodb:*", "iot:Publish"]


class Subscriber(Impostor):
    """Connected and subscribed as an agent is; it notes when each message comes."""

    def __init__(self, cloud: LocalCloud, pool: Credential) -> None:
        self.came: dict[int, float] = {}
        super().__init__(cloud, pool)

    def _hear(self, data: mqtt5.PublishReceivedData) -> None:
        now = time.time()
        number = json.loads(data.publish_packet.payload or b"{}").get("number")
        if number is not None:
            self.came[number] = now
        super()._hear(data)


@contextmanager
def bare_chain(cloud: LocalCloud, pool: Credential) -> Generator["Chain"]:
    """The chain, ready; its function and its queue are gone afterwards, its table too."""
    client: Any = cloud.client("dynamodb")
    with own_table(client, NAME), Subscriber(cloud, pool) as subscriber:
        source = HANDLER.replace("TABLE", NAME).replace("TOPIC", subscriber.topic).replace("SIZE", str(MESSAGE_BYTES))
        queue = _deploy(cloud, source)
        chain = Chain(cloud, queue, subscriber)
        chain.make_idle()
        yield chain
        cloud.client("lambda").delete_function(FunctionName=NAME)
        cloud.client("sqs").delete_queue(QueueUrl=queue)


class Chain:
    """Sends, and waits for what comes of it."""

    def __init__(self, cloud: LocalCloud, queue: str, subscriber: Subscriber) -> None:
        self._sqs: Any = cloud.client("sqs")
        self._table: Any = cloud.client("dynamodb")
        self._queue = queue
        self._came = subscriber.came

    def once(self, number: int) -> float:
        """Seconds from SendMessageBatch, which is how requests are sent, to the message."""
        sent = time.time()
        entry = {"Id": "0", "MessageBody": json.dumps({"number": number})}
        self._sqs.send_message_batch(QueueUrl=self._queue, Entries=[entry])
        while number not in self._came:
            if time.time() - sent > SECONDS:
                raise RuntimeError("nothing came within a minute")
            time.sleep(0.001)
        self.make_idle()
        return self._came[number] - sent

    def make_idle(self) -> None:
        """The marker of the idle worker that the next one is for; outside of what is measured, and long before."""
        marker = {"pk": {"S": "pool"}, "sk": {"S": "idle#1"}, "body": {"S": "x" * 400}}
        self._table.put_item(TableName=NAME, Item=marker)


def _deploy(cloud: LocalCloud, source: str) -> str:
    """The function behind its queue, with the layer, the memory and the batches of `dispatch_runs`; the queue's URL."""
    functions: Any = cloud.client("lambda")
    model = functions.get_function_configuration(FunctionName=cloud.function_name("DispatchRuns"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("chain.py", source)
    functions.create_function(
        FunctionName=NAME,
        Runtime=model["Runtime"],
        MemorySize=model["MemorySize"],
        Layers=[layer["Arn"] for layer in model["Layers"]],
        Role=_role(cloud),
        Handler="chain.handler",
        Code={"ZipFile": packed.getvalue()},
        Timeout=20,
    )
    sqs: Any = cloud.client("sqs")
    queue = sqs.create_queue(QueueName=NAME, Attributes={"VisibilityTimeout": "120"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    functions.create_event_source_mapping(
        FunctionName=NAME, EventSourceArn=arn, BatchSize=10, ScalingConfig={"MaximumConcurrency": 10}
    )
    return queue


def _role(cloud: LocalCloud) -> str:
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    allow = {"Effect": "Allow", "Action": ALLOWED, "Resource": "*"}
    iam: Any = cloud.client("iam")
    created = iam.create_role(
        RoleName=NAME, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam.put_role_policy(RoleName=NAME, PolicyName="chain", PolicyDocument=document)
    return created["Role"]["Arn"]
