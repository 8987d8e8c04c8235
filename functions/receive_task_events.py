"""ECS Task State Change events of the cluster's tasks."""

import json
from typing import Any

from quaymaster import cold_start
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.workers.task_events import TaskStopped, read_task_event, taken_back, task_stopped
from quaymaster.errors import Refused
from quaymaster.wiring import logged, namespace, ports

PORTS = ports()
POOLS = Pools(PORTS.store, PORTS.clock)


@logged
def handler(event: dict[str, Any], context: object) -> None:
    """One EventBridge event in; what matters is a task that has stopped, or is about to.

    What must come again is raised.
    """
    try:
        found = read_task_event(event.get("detail"), namespace())
    except Refused as refused:
        # It will never be better: told once, kept where people look, never retried.
        PORTS.log("event_refused", {"note": str(refused)[:200]})
        PORTS.queue.refuse(json.dumps(event), str(refused), "task events")
        return
    if isinstance(found, TaskStopped):
        task_stopped(PORTS, POOLS, found)
    elif found:
        taken_back(PORTS, POOLS, found)


cold_start.over()
