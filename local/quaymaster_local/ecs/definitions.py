"""Task definitions: kept by ministack's ECS, read here in the shape that starting a task needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from quaymaster_local.ecs.errors import ClientException
from quaymaster_local.settings import REGION, ROOT_ACCESS_KEY, ROOT_SECRET_KEY

TARGET = "AmazonEC2ContainerServiceV20141113"
DEFAULT_STOP_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A task definition with its first container, the only one that the local cloud starts.

    `secrets` maps a variable to the name or ARN of its SSM parameter.
    """

    arn: str
    family: str
    cpu: str
    memory: str
    container: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str]
    stop_timeout_seconds: float
    execution_role_arn: str | None
    task_role_arn: str | None

    @property
    def roles(self) -> list[str]:
        """The roles that whoever runs it must be allowed to pass."""
        return sorted({role for role in (self.execution_role_arn, self.task_role_arn) if role})


def read_definition(document: Mapping[str, Any]) -> Definition:
    """The definition in a `taskDefinition` of the ECS API."""
    container = document["containerDefinitions"][0]
    return Definition(
        arn=document["taskDefinitionArn"],
        family=document["family"],
        cpu=str(document.get("cpu") or "256"),
        memory=str(document.get("memory") or "512"),
        container=container["name"],
        image=container["image"],
        command=tuple(container.get("command") or ()),
        environment={pair["name"]: pair["value"] for pair in container.get("environment") or ()},
        secrets={pair["name"]: pair["valueFrom"] for pair in container.get("secrets") or ()},
        stop_timeout_seconds=float(container.get("stopTimeout") or DEFAULT_STOP_TIMEOUT_SECONDS),
        execution_role_arn=document.get("executionRoleArn") or None,
        task_role_arn=document.get("taskRoleArn") or None,
    )


class Definitions:
    """ministack's own ECS, called as root with requests in the wire format."""

    def __init__(self, endpoint_url: str) -> None:
        self._endpoint_url = endpoint_url
        self._http = URLLib3Session(max_pool_connections=20)

    def forward(self, operation: str, body: bytes) -> tuple[int, bytes]:
        """Send the body to ministack's ECS and return its status and body unchanged."""
        request = AWSRequest(
            method="POST",
            url=f"{self._endpoint_url}/",
            data=body,
            headers={"X-Amz-Target": f"{TARGET}.{operation}", "Content-Type": "application/x-amz-json-1.1"},
        )
        SigV4Auth(Credentials(ROOT_ACCESS_KEY, ROOT_SECRET_KEY), "ecs", REGION).add_auth(request)
        answer = self._http.send(request.prepare())
        return answer.status_code, answer.content

    def read(self, reference: str) -> Definition:
        """The definition named by family, `family:revision` or ARN; raises ClientException if it is not active."""
        status, body = self.forward("DescribeTaskDefinition", json.dumps({"taskDefinition": reference}).encode())
        document = json.loads(body)
        if status != 200 or document["taskDefinition"].get("status") == "INACTIVE":
            raise ClientException("TaskDefinition not found.")
        return read_definition(document["taskDefinition"])

    def cluster_arn(self, reference: str) -> str | None:
        """The ARN of an active cluster, or None."""
        status, body = self.forward("DescribeClusters", json.dumps({"clusters": [reference]}).encode())
        clusters = json.loads(body).get("clusters") if status == 200 else None
        return str(clusters[0]["clusterArn"]) if clusters else None
