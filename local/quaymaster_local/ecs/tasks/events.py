"""`ECS Task State Change` events, delivered through the EventBridge rules that were deployed.

ministack, like AWS, refuses `PutEvents` from `aws.*` sources: so the rules are read, matched by EventBridge's own
`TestEventPattern`, and their functions invoked asynchronously, as EventBridge does.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from quaymaster_local.ecs.faults import Fault, FaultKind
from quaymaster_local.settings import REGION

log = logging.getLogger(__name__)

RETRIES = 5
DETAIL_TYPE = "ECS Task State Change"


class TaskEvents:
    """Delivers events one at a time, in the order of the changes; AWS promises neither, so nothing may rely on it."""

    def __init__(self, events: Any, functions: Any) -> None:
        self._events = events
        self._functions = functions
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._deliver_all, name="task-events", daemon=True)
        self._thread.start()

    def put(self, detail: Mapping[str, Any], fault: Fault | None = None) -> None:
        """Queue the event for a change, with what goes wrong with it; returns at once."""
        event, kind = task_event(detail), fault.kind if fault else None
        if kind is FaultKind.EVENTS_LOST:
            return
        if fault and kind is FaultKind.EVENTS_LATE:
            later = threading.Timer(fault.seconds, self._waiting.put, (event,))
            later.daemon = True
            later.start()
            return
        for _ in range(2 if kind is FaultKind.EVENTS_TWICE else 1):
            self._waiting.put(event)

    def close(self) -> None:
        """Stop delivering; what is queued is dropped, since the cloud goes with it."""
        self._waiting.put(None)

    def _deliver_all(self) -> None:
        while (event := self._waiting.get()) is not None:
            self._deliver(event)

    def _deliver(self, event: dict[str, Any]) -> None:
        for attempt in range(1, RETRIES + 1):
            try:
                for arn in self._matching_functions(event):
                    self._functions.invoke(FunctionName=arn, InvocationType="Event", Payload=json.dumps(event).encode())
                return
            except (BotoCoreError, ClientError) as error:
                log.warning("delivery %d of %s failed: %s", attempt, event["id"], error)
                time.sleep(0.1 * 2**attempt)
        log.error("event given up: %s", json.dumps(event))

    def _matching_functions(self, event: dict[str, Any]) -> list[str]:
        arns: list[str] = []
        for rule in self._events.list_rules()["Rules"]:
            if rule.get("State") != "ENABLED" or not rule.get("EventPattern"):
                continue
            if self._events.test_event_pattern(EventPattern=rule["EventPattern"], Event=json.dumps(event))["Result"]:
                targets = self._events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
                arns += [target["Arn"] for target in targets if ":lambda:" in target["Arn"]]
        return arns


def task_event(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The EventBridge event for a task's state, shaped as AWS shapes it."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": DETAIL_TYPE,
        "source": "aws.ecs",
        "account": detail["taskArn"].split(":")[4],
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": REGION,
        "resources": [detail["taskArn"]],
        "detail": dict(detail),
    }
