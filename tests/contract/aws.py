"""AWS clients for the contract suites: moto's, and some that nobody answers."""

from typing import Any

import boto3
from botocore.config import Config

REGION = "us-east-1"
_ONCE = Config(connect_timeout=1, read_timeout=1, retries={"mode": "standard", "total_max_attempts": 1})


def moto_client(service: str) -> Any:
    """A client that moto answers while its mock is on."""
    make: Any = boto3
    return make.client(service, region_name=REGION)


def dead_client(service: str) -> Any:
    """A client whose every call fails: nobody listens at its endpoint."""
    make: Any = boto3
    return make.client(
        service,
        region_name=REGION,
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=_ONCE,
    )


def refusing_client(service: str, code: str, message: str, status: int = 400, **fields: Any) -> Any:
    """A client whose every call is answered with this error, as botocore hands it on."""
    client = dead_client(service)

    def refuse(model: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
        answer = type("Answer", (), {"status_code": status})()
        error = {"Code": code, "Message": message}
        return answer, {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}, **fields}

    client.meta.events.register("before-call", refuse)
    return client
