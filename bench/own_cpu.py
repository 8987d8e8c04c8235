"""CPU time of our own code in a dispatch: the handler of `dispatch_runs` over AWS clients that take nothing.

A request comes in, an idle worker is read and claimed, and its assignment is encoded and handed to the broker's client.
What botocore does with a call, and its signatures in grants, are not ours, and are left out.
"""

import json
import time
from dataclasses import replace
from typing import Any

from quaymaster.adapters.dynamodb.store import DynamoStore
from quaymaster.adapters.iot.messenger import IotMessenger
from quaymaster.adapters.memory.blobs import MemoryBlobs
from quaymaster.adapters.records.codec import encode
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.domain.pool import PoolName
from quaymaster.domain.worker import Marker

from bench.deployed import CONTEXT, Functions, functions
from bench.figures import Figures, least
from tests.shared.memory.records import POOL, a_pool, a_worker

ROUNDS = 15
RUNS = 200
QUEUE = {"attributes": {"SenderId": "AIDABENCH"}, "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:requests"}


class Table:
    """A DynamoDB client of a table with one pool, in which a worker is always idle."""

    def __init__(self) -> None:
        pool, worker = a_pool(), a_worker("bench")
        self._pool = {"Item": encode(pool)}
        self._name = {"Item": encode(PoolName(name=pool.name, pool_id=pool.id))}
        self._idle = {"Items": [encode(Marker(random=worker.marker or "", worker=worker))]}
        self.commits = 0

    def get_item(self, Key: dict[str, dict[str, str]], **_: Any) -> dict[str, Any]:
        """The pool, or its name."""
        return self._pool if Key["sk"]["S"] == "pool" else self._name

    def query(self, ExpressionAttributeValues: dict[str, dict[str, str]], **_: Any) -> dict[str, Any]:
        """The idle worker; nothing else is asked for."""
        return self._idle if ExpressionAttributeValues[":prefix"]["S"] == "idle#" else {"Items": []}

    def transact_write_items(self, **_: Any) -> dict[str, Any]:
        """Written."""
        self.commits += 1
        return {}


class Broker:
    """An IoT data client that counts what is published."""

    def __init__(self) -> None:
        self.published = 0

    def publish(self, **_: Any) -> None:
        """Published."""
        self.published += 1


def measure_own_cpu() -> Figures:
    """Milliseconds of CPU for each run, one request in each batch."""
    with functions() as deployed:
        table, broker = _without_aws(deployed)
        samples = [_milliseconds(deployed, number) for number in range(ROUNDS + 1)][1:]
    runs = (ROUNDS + 1) * RUNS
    if (table.commits, broker.published) != (runs, runs):
        raise RuntimeError(f"{runs} runs were {table.commits} commits and {broker.published} assignments")
    return {"own_cpu_ms_per_dispatched_run": least(samples)}


def _without_aws(deployed: Functions) -> tuple[Table, Broker]:
    table, broker = Table(), Broker()
    client: Any = table
    publisher: Any = broker
    ports = replace(
        deployed.ports,
        store=DynamoStore(client, "quaymaster"),
        messenger=IotMessenger("quaymaster", lambda: publisher),
        blobs=MemoryBlobs(deployed.ports.clock),
    )
    deployed.dispatch_runs.PORTS, deployed.dispatch_runs.POOLS = ports, Pools(ports.store, ports.clock)
    return table, broker


def _milliseconds(deployed: Functions, number: int) -> float:
    bodies = [
        json.dumps({"schema": 1, "id": f"own-{number}-{run}", "pool": POOL, "command": ["true"]}) for run in range(RUNS)
    ]
    batches = [{"Records": [{"messageId": "m", "body": body, **QUEUE}]} for body in bodies]
    began = time.process_time()
    for batch in batches:
        deployed.dispatch_runs.handler(batch, CONTEXT)
    return (time.process_time() - began) / RUNS * 1000
