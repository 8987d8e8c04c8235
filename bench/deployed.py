"""The shipped functions in this process, over moto: real handlers, real botocore clients, nothing deployed."""

import base64
import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from moto import mock_aws
from quaymaster import wiring
from quaymaster.adapters.aws.clients import Clients
from quaymaster.adapters.memory.tasks import MemoryTasks
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.domain.pool import Counters, PoolEntry, PoolKind, PoolName, Starts
from quaymaster.ports import Create, Ports

from bench.meter import Meter
from tests.shared.deployed.tables import SHAPE
from tests.shared.memory.records import POOL, a_pool

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "POWERTOOLS_LOG_LEVEL": "CRITICAL",
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
    "QUAYMASTER_NAMESPACE": "quaymaster",
    "QUAYMASTER_TABLE": "quaymaster",
    "QUAYMASTER_BUCKET": "quaymaster-bench",
    "QUAYMASTER_INTERNAL_QUEUE_URL": "https://queue/internal",
    "QUAYMASTER_DEAD_LETTER_QUEUE_URL": "https://queue/dead-letters",
    "QUAYMASTER_SSM_PREFIX": "/quaymaster/quaymaster",
    "QUAYMASTER_ECS_CLUSTER": "quaymaster",
    "QUAYMASTER_SUBNETS": "subnet-1",
    "QUAYMASTER_WORKER_TASK_DEFINITION": "quaymaster-worker",
}


# The functions are modules of their own, as in Lambda.
sys.path.append(str(Path(__file__).resolve().parents[1] / "functions"))
CONTEXT = SimpleNamespace(aws_request_id="bench", get_remaining_time_in_millis=lambda: 30_000)


@dataclass(frozen=True)
class Functions:
    """The handlers, and the meter on their clients."""

    dispatch_runs: Any
    receive_worker_events: Any
    ports: Ports
    meter: Meter
    tasks: MemoryTasks

    def request(self, *requests: dict[str, Any]) -> None:
        """One batch of the request queue."""
        queue = {
            "attributes": {"SenderId": "AIDABENCH"},
            "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:requests",
        }
        records = [{"messageId": f"m{i}", "body": json.dumps(body), **queue} for i, body in enumerate(requests)]
        again = self.dispatch_runs.handler({"Records": records}, CONTEXT)
        if again["batchItemFailures"]:
            raise RuntimeError(f"records came back: {again}")

    def event(self, worker: str, event: str, **body: Any) -> None:
        """One message of an agent."""
        encoded = base64.b64encode(json.dumps({"schema": 1, "session": "s1", **body}).encode()).decode()
        delivered = {"pool_id": POOL, "worker_id": worker, "event": event, "body": encoded}
        self.receive_worker_events.handler({**delivered, "received_at": 1}, None)


@contextmanager
def functions(kind: PoolKind = PoolKind.PRIVATE, **pool: Any) -> Generator[Functions]:
    """Functions over an empty table with one pool in it."""
    before = dict(os.environ)
    os.environ.pop("AWS_ENDPOINT_URL", None)
    os.environ.update(ENVIRONMENT)
    for cached in (wiring.settings, wiring.ports, wiring.clients, wiring.telemetry):
        cached.cache_clear()
    try:
        # moto publishes at the region's common endpoint only.
        with mock_aws(), patch.object(Clients, "_own_broker", return_value=None):
            yield _deploy(kind, pool)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _deploy(kind: PoolKind, changes: dict[str, Any]) -> Functions:
    clients, ports = wiring.clients(), wiring.ports()
    clients.dynamodb.create_table(TableName="quaymaster", BillingMode="PAY_PER_REQUEST", **SHAPE)
    pool = a_pool(kind_of=kind, **changes)
    ports.store.commit(
        Create(pool),
        Create(PoolEntry(pool_id=pool.id, name=pool.name)),
        Create(PoolName(name=pool.name, pool_id=pool.id)),
        Create(Counters(pool_id=pool.id)),
        Create(Starts(pool_id=pool.id)),
    )
    now = datetime.now(UTC)
    # ECS alone is in memory: what its answers cost is no write. The clock stands, so that no cache runs out meanwhile.
    tasks = MemoryTasks()
    ports = replace(ports, tasks=tasks, clock=lambda: now)
    modules: list[Any] = [import_module(name) for name in ("dispatch_runs", "receive_worker_events")]
    for module in modules:
        # Imported once for each process, they keep the ports of their first deployment.
        module.PORTS, module.POOLS = ports, Pools(ports.store, ports.clock)
    meter = Meter()
    for client in (clients.dynamodb, clients.iot_data, clients.sqs, clients.s3):
        meter.listen(client)
    return Functions(modules[0], modules[1], ports, meter, tasks)
