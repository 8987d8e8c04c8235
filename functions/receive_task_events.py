"""ECS Task State Change events of the cluster's tasks."""

from typing import Any

from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.task_events import TaskStopped, task_stopped
from longshore.domain.ids import CONTAINER, ULID
from longshore.wiring import logged, namespace, ports

PORTS = ports()
POOLS = Pools(PORTS.store, PORTS.clock)


@logged
def handler(event: dict[str, Any], context: object) -> None:
    """One EventBridge event in; only a task that has stopped matters."""
    stopped = parse(event["detail"], namespace())
    if stopped:
        task_stopped(PORTS, POOLS, stopped)


def parse(detail: dict[str, Any], ours: str) -> TaskStopped | None:
    """What matters of a stopped task of ours; None for any other. Fields may be null; containers may be others, too."""
    family = (detail.get("taskDefinitionArn") or "").rpartition("/")[2].rpartition(":")[0]
    pool_id = family.removeprefix(f"{ours}-pool-")
    if detail.get("lastStatus") != "STOPPED" or pool_id == family or not ULID.fullmatch(pool_id):
        return None
    containers: list[dict[str, Any]] = detail.get("containers") or []
    reasons = [found.get("reason") or "" for found in containers if found.get("name") == CONTAINER]
    return TaskStopped(
        pool_id=pool_id,
        launch_id=detail.get("startedBy") or "",
        task_arn=detail["taskArn"],
        stop_code=detail.get("stopCode") or "",
        stopped_reason=detail.get("stoppedReason") or "",
        container_reason=reasons[0] if reasons else "",
    )
