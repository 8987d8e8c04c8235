"""Agents' messages and the broker's presence events, each delivered by an IoT rule."""

import json
from datetime import UTC, datetime
from typing import Any

from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.worker_events import WorkerEvent, receive, receive_presence
from longshore.errors import Refused
from longshore.wiring import logged, ports

PORTS = ports()
POOLS = Pools(PORTS.store, PORTS.clock)


@logged
def handler(event: dict[str, Any], context: object) -> None:
    """One event in; what must come again is raised, and the function's own retries bring it."""
    at = datetime.fromtimestamp(event["received_at"] / 1000, UTC)
    try:
        if "clientId" in event:
            receive_presence(PORTS, POOLS, event["clientId"], event["eventType"], at)
        else:
            receive(PORTS, POOLS, parse(event, at))
    except Refused as refused:
        # It will never be better: told once, kept where people look, never retried.
        PORTS.log("event_refused", {"note": str(refused)[:200]})
        PORTS.queue.refuse(json.dumps(event), str(refused), "worker events")


def parse(event: dict[str, Any], at: datetime) -> WorkerEvent:
    """The rule's fields: ids from the topic, the body as base64."""
    return WorkerEvent(
        pool_id=event["pool_id"],
        worker_id=event["worker_id"],
        event=event["event"],
        body=event.get("body") or "",
        received_at=at,
    )
