"""A task: its states, and how the ECS API, its events and its metadata endpoint show it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from quaymaster_local.ecs.definitions import Definition
from quaymaster_local.settings import REGION


class TaskStatus(StrEnum):
    """The states of a Fargate task that the local cloud passes through."""

    PROVISIONING = "PROVISIONING"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    DEPROVISIONING = "DEPROVISIONING"
    STOPPED = "STOPPED"


class StopCode(StrEnum):
    """Why a task stopped, as ECS codes it."""

    USER_INITIATED = "UserInitiated"
    ESSENTIAL_CONTAINER_EXITED = "EssentialContainerExited"
    TASK_FAILED_TO_START = "TaskFailedToStart"
    SPOT_INTERRUPTION = "SpotInterruption"


@dataclass(kw_only=True)
class Task:
    """One task. Its board changes it, under the board's lock, and raises `version` with every change."""

    id: str
    cluster_arn: str
    definition: Definition
    started_by: str | None
    group: str
    overrides: Mapping[str, Any]
    environment: Mapping[str, str] = field(repr=False)
    command: tuple[str, ...]
    cpu: str
    memory: str
    tags: tuple[Mapping[str, str], ...]
    created_at: datetime
    listed_from: datetime | None = None
    credentials_id: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False)
    status: TaskStatus = TaskStatus.PROVISIONING
    desired: TaskStatus = TaskStatus.RUNNING
    version: int = 1
    pid: int | None = None
    exit_code: int | None = None
    stop_code: StopCode | None = None
    stopped_reason: str | None = None
    container_reason: str | None = None
    pull_started_at: datetime | None = None
    started_at: datetime | None = None
    stopping_at: datetime | None = None
    stopped_at: datetime | None = None

    @property
    def arn(self) -> str:
        """The task's ARN."""
        prefix, _, cluster = self.cluster_arn.partition(":cluster/")
        return f"{prefix}:task/{cluster}/{self.id}"

    @property
    def ended(self) -> bool:
        """Whether it has stopped."""
        return self.status is TaskStatus.STOPPED

    @property
    def _shows_container(self) -> bool:
        """As on AWS, a task that never started has none, unless it is the container that failed."""
        return self.stop_code is not StopCode.TASK_FAILED_TO_START or self.container_reason is not None

    def as_detail(self) -> dict[str, Any]:
        """The task as an event's `detail`, with ISO 8601 times."""
        return self._shown(_iso8601)

    def as_answer(self) -> dict[str, Any]:
        """The task as the API returns it, with times in epoch seconds."""
        return {**self._shown(datetime.timestamp), "tags": [dict(tag) for tag in self.tags]}

    def _shown(self, moment: Callable[[datetime], str | float]) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "taskArn": self.arn,
            "clusterArn": self.cluster_arn,
            "taskDefinitionArn": self.definition.arn,
            "availabilityZone": f"{REGION}a",
            "launchType": "FARGATE",
            "platformVersion": "1.4.0",
            "connectivity": "CONNECTED",
            "group": self.group,
            "startedBy": self.started_by,
            "cpu": self.cpu,
            "memory": self.memory,
            "overrides": dict(self.overrides),
            "attachments": [],
            "attributes": [],
            "lastStatus": self.status,
            "desiredStatus": self.desired,
            "version": self.version,
            "stopCode": self.stop_code,
            "stoppedReason": self.stopped_reason,
            "containers": [self._container()] if self._shows_container else [],
        }
        times = {
            "createdAt": self.created_at,
            "pullStartedAt": self.pull_started_at,
            "startedAt": self.started_at,
            "stoppingAt": self.stopping_at,
            "stoppedAt": self.stopped_at,
        }
        shown |= {name: moment(value) for name, value in times.items() if value is not None}
        return {name: value for name, value in shown.items() if value is not None}

    def _container(self) -> dict[str, Any]:
        running = self.status in (TaskStatus.RUNNING, TaskStatus.DEPROVISIONING)
        container: dict[str, Any] = {
            "containerArn": f"{self.arn.replace(':task/', ':container/')}/{self.id[:8]}",
            "taskArn": self.arn,
            "name": self.definition.container,
            "image": self.definition.image,
            "lastStatus": "STOPPED" if self.ended else ("RUNNING" if running else "PENDING"),
            "networkInterfaces": [],
            "cpu": "0",
        }
        if self.pid is not None:
            # Fargate's runtime ids look like this; the local cloud puts the agent's pid in the second part.
            container["runtimeId"] = f"{self.id}-{self.pid}"
        if self.exit_code is not None:
            container["exitCode"] = self.exit_code
        if self.container_reason is not None:
            container["reason"] = self.container_reason
        return container

    def as_metadata(self) -> dict[str, Any]:
        """What the task metadata endpoint, version 4, answers on `/task`."""
        family, _, revision = self.definition.arn.rsplit("/", 1)[-1].partition(":")
        return {
            "Cluster": self.cluster_arn,
            "TaskARN": self.arn,
            "Family": family,
            "Revision": revision,
            "DesiredStatus": self.desired,
            "KnownStatus": self.status,
            "Limits": {"CPU": int(self.cpu) / 1024, "Memory": int(self.memory)},
            "AvailabilityZone": f"{REGION}a",
            "LaunchType": "FARGATE",
            "Containers": [self.container_metadata()],
        }

    def container_metadata(self) -> dict[str, Any]:
        """What the task metadata endpoint, version 4, answers on the container's own path."""
        return {
            "DockerId": f"{self.id}-{self.pid}",
            "Name": self.definition.container,
            "DockerName": self.definition.container,
            "Image": self.definition.image,
            "Labels": {
                "com.amazonaws.ecs.cluster": self.cluster_arn,
                "com.amazonaws.ecs.task-arn": self.arn,
                "com.amazonaws.ecs.task-definition-family": self.definition.family,
            },
            "DesiredStatus": self.desired,
            "KnownStatus": self.status,
            "Type": "NORMAL",
        }


def _iso8601(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
