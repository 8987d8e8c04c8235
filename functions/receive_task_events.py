"""ECS Task State Change events of the cluster's tasks."""

import json
from typing import Any

from quaymaster import cold_start
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.workers.task_events import read_task_event, task_stopped
from quaymaster.errors import Refused
from quaymaster.wiring import logged, namespace, ports

PORTS = ports()
POOLS = Pools(PORTS.store, PORTS.clock)


@logged
def handler(event: dict[str, Any], context: object) -> None:
    """One EventBridge event in; only a task that has stopped matters. What must come again is raised."""
    try:
        stopped = read_task_event(event.get("detail"), namespace())
    except Refused as refused:
        # It will never be better: told once, kept where people look, never retried.
        PORTS.log("event_refused", {"note": str(refused)[:200]})
        PORTS.queue.refuse(json.dumps(event), str(refused), "task events")
        return
    if stopped:
        task_stopped(PORTS, POOLS, stopped)


cold_start.over()
