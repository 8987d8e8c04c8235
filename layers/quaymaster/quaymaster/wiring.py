"""The architecture on one screen: which adapter fulfils which port, made of the settings, once for each process."""

import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, wraps
from typing import Any, cast

from quaymaster.adapters.aws.clients import Clients
from quaymaster.adapters.aws.telemetry import Telemetry
from quaymaster.adapters.aws_lambda.functions import LambdaFunctions
from quaymaster.adapters.dynamodb.store import DynamoStore
from quaymaster.adapters.ecs.tasks import EcsTasks, TaskPlace
from quaymaster.adapters.ecs.vicinity import Vicinity
from quaymaster.adapters.iot.certificates import IotCertificates
from quaymaster.adapters.iot.messenger import IotMessenger
from quaymaster.adapters.s3.blobs import S3Blobs
from quaymaster.adapters.s3.presign import BucketAddress, Presigner
from quaymaster.adapters.sqs import queue
from quaymaster.adapters.sqs.queue import SqsQueue
from quaymaster.ports import Functions, Ports, QueueName
from quaymaster.settings import Settings, read_settings


@cache
def settings() -> Settings:
    """The settings of this function. Raises Refused, naming every variable that is missing or wrong."""
    return read_settings(os.environ)


@cache
def ports() -> Ports:
    """The ports of this function. Calls nothing; every client but the table's is made when it is first used."""
    return connect(settings(), clients())


@cache
def clients() -> Clients:
    """The AWS clients of this function."""
    found = settings()
    return Clients(found.region, found.endpoint_url, found.ecs_endpoint)


@cache
def functions() -> Functions:
    """The other functions, for what hands their events to them again. Calls nothing."""
    return LambdaFunctions(settings().namespace, lambda: clients().functions)


@cache
def telemetry() -> Telemetry:
    """Log and metrics of this function."""
    return Telemetry(settings().namespace)


def namespace() -> str:
    """The namespace of this deployment: it begins every name, topic and client id."""
    return settings().namespace


def logged[E, R](handler: Callable[[E, object], R]) -> Callable[[E, object], R]:
    """A handler whose every log line names the request, and whose failures are logged in the same form."""

    @wraps(handler)
    def logging_handler(event: E, context: object) -> R:
        with telemetry().invocation(context):
            return handler(event, context)

    return logging_handler


def queue_of(arn: str) -> QueueName:
    """Which queue a message came from, by the ARN of its event source."""
    return queue.queue_of(arn, settings().internal_queue_url)


def time_left(context: object) -> timedelta:
    """How long this invocation may still take."""
    milliseconds: int = cast("Any", context).get_remaining_time_in_millis()
    return timedelta(milliseconds=milliseconds)


def clock() -> datetime:
    """The control plane's time."""
    return datetime.now(UTC)


def connect(found: Settings, aws: Clients) -> Ports:
    """The ports over AWS."""
    address = BucketAddress(bucket=found.bucket, region=found.region, endpoint_url=found.endpoint_url)
    place = TaskPlace(
        namespace=found.namespace,
        cluster=found.ecs_cluster,
        model=found.worker_task_definition,
        subnets=found.subnets,
        security_groups=found.security_groups,
        public_ip=found.assign_public_ip == "ENABLED",
    )
    return Ports(
        namespace=found.namespace,
        store=DynamoStore(aws.dynamodb, found.table),
        messenger=IotMessenger(found.namespace, lambda: aws.iot_data),
        queue=SqsQueue(lambda: aws.sqs, found.internal_queue_url, found.dead_letter_queue_url),
        tasks=EcsTasks(place, lambda: aws.ecs, Vicinity(lambda: aws.ec2, lambda: aws.ecr)),
        blobs=S3Blobs(found.bucket, lambda: aws.s3, Presigner(address, aws.credentials), aws.credentials_left),
        certificates=IotCertificates(found.namespace, found.ssm_prefix, lambda: aws.iot, lambda: aws.ssm),
        clock=clock,
        random=secrets.token_bytes,
        log=telemetry(),
        runner_image=found.runner_image,
    )
