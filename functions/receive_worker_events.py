"""Agents' messages and the broker's presence events, each delivered by an IoT rule."""

import json
from typing import Any

from quaymaster import cold_start
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.workers.worker_events import WorkerEvent, read_event, receive, receive_presence
from quaymaster.errors import Refused
from quaymaster.wiring import logged, ports

PORTS = ports()
POOLS = Pools(PORTS.store, PORTS.clock)


@logged
def handler(event: dict[str, Any], context: object) -> None:
    """One event in; what must come again is raised, and the function's own retries bring it."""
    try:
        found = read_event(event)
        if isinstance(found, WorkerEvent):
            receive(PORTS, POOLS, found)
        else:
            receive_presence(PORTS, POOLS, found.client_id, found.kind, found.at)
    except Refused as refused:
        # It will never be better: told once, kept where people look, never retried.
        PORTS.log("event_refused", {"note": str(refused)[:200]})
        PORTS.queue.refuse(json.dumps(event), str(refused), "worker events")


cold_start.over()
