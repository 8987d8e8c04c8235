"""ECS Task State Change events of the cluster's tasks."""

import json
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.workers.task_events import TaskStopped, task_stopped
from quaymaster.domain.ids import CONTAINER, ULID
from quaymaster.domain.requests import refusal
from quaymaster.errors import Refused
from quaymaster.wiring import logged, namespace, ports

PORTS = ports()
POOLS = Pools(PORTS.store, PORTS.clock)


@logged
def handler(event: dict[str, Any], context: object) -> None:
    """One EventBridge event in; only a task that has stopped matters. What must come again is raised."""
    try:
        stopped = parse(event.get("detail"), namespace())
    except Refused as refused:
        # It will never be better: told once, kept where people look, never retried.
        PORTS.log("event_refused", {"note": str(refused)[:200]})
        PORTS.queue.refuse(json.dumps(event), str(refused), "task events")
        return
    if stopped:
        task_stopped(PORTS, POOLS, stopped)


class Container(BaseModel):
    """A container of a stopped task."""

    name: str | None = None
    reason: str | None = None


class Detail(BaseModel):
    """What is read of an event's `detail`; ECS leaves out or makes null what it does not know."""

    task_arn: str = Field(alias="taskArn", min_length=1)
    definition: str | None = Field(default=None, alias="taskDefinitionArn")
    status: str | None = Field(default=None, alias="lastStatus")
    started_by: str | None = Field(default=None, alias="startedBy")
    stop_code: str | None = Field(default=None, alias="stopCode")
    stopped_reason: str | None = Field(default=None, alias="stoppedReason")
    containers: list[Container] | None = None


def parse(found: object, ours: str) -> TaskStopped | None:
    """What matters of a stopped task of ours; None for any other. Other containers may be beside the worker's.

    Raises Refused for a field that is not what ECS sends.
    """
    try:
        detail = Detail.model_validate(found)
    except ValidationError as error:
        raise refusal(error) from None
    family = (detail.definition or "").rpartition("/")[2].rpartition(":")[0]
    pool_id = family.removeprefix(f"{ours}-pool-")
    if detail.status != "STOPPED" or pool_id == family or not ULID.fullmatch(pool_id):
        return None
    reasons = [one.reason or "" for one in detail.containers or [] if one.name == CONTAINER]
    return TaskStopped(
        pool_id=pool_id,
        launch_id=detail.started_by or "",
        task_arn=detail.task_arn,
        stop_code=detail.stop_code or "",
        stopped_reason=detail.stopped_reason or "",
        container_reason=reasons[0] if reasons else "",
    )
