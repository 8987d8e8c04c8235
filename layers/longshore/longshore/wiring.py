"""The architecture on one screen: which adapter fulfils which port, made of the settings, once for each process."""

import os
import secrets
from datetime import UTC, datetime
from functools import cache

from longshore.adapters.aws_clients import Clients
from longshore.adapters.certificates import IotCertificates
from longshore.adapters.dynamodb import DynamoStore
from longshore.adapters.ecs import EcsTasks, TaskPlace
from longshore.adapters.iot import IotMessenger
from longshore.adapters.presign import BucketAddress, Presigner
from longshore.adapters.s3 import S3Blobs
from longshore.adapters.sqs import SqsDeadLetters, SqsQueue
from longshore.adapters.telemetry import Telemetry
from longshore.domain.dead_letters import DeadLetterBox
from longshore.ports import Ports
from longshore.settings import Settings, read_settings


@cache
def settings() -> Settings:
    """The settings of this function. Raises Refused, naming every variable that is missing or wrong."""
    return read_settings(os.environ)


@cache
def ports() -> Ports:
    """The ports of this function. Makes no call and no client: each is made when it is first used."""
    return connect(settings(), clients())


@cache
def clients() -> Clients:
    """The AWS clients of this function."""
    found = settings()
    return Clients(found.region, found.endpoint_url, found.ecs_endpoint)


@cache
def telemetry() -> Telemetry:
    """Log and metrics of this function; `telemetry().logger` takes a handler's `inject_lambda_context`."""
    return Telemetry(settings().namespace)


@cache
def dead_letters() -> DeadLetterBox:
    """What was refused or could not be handled."""
    return SqsDeadLetters(lambda: clients().sqs, settings().dead_letter_queue_url)


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
        store=DynamoStore(lambda: aws.dynamodb, found.table),
        messenger=IotMessenger(found.namespace, lambda: aws.iot_data),
        queue=SqsQueue(lambda: aws.sqs, found.request_queue_url, found.dead_letter_queue_url, clock),
        tasks=EcsTasks(place, lambda: aws.ecs),
        blobs=S3Blobs(found.bucket, lambda: aws.s3, Presigner(address, aws.credentials), aws.credentials_left),
        certificates=IotCertificates(found.namespace, found.ssm_prefix, lambda: aws.iot, lambda: aws.ssm),
        clock=clock,
        random=secrets.token_bytes,
        log=telemetry(),
    )
