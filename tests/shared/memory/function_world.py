"""The functions as Lambda calls them, over ports in memory: for what goes in as an event and comes out anywhere."""

import importlib
import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from quaymaster import wiring
from quaymaster.adapters.memory.blobs import MemoryBlobs
from quaymaster.adapters.memory.certificates import MemoryCertificates
from quaymaster.adapters.memory.messenger import MemoryMessenger
from quaymaster.adapters.memory.queue import MemoryQueue
from quaymaster.adapters.memory.store import MemoryStore
from quaymaster.adapters.memory.tasks import MemoryTasks
from quaymaster.domain import ids
from quaymaster.domain.pool import Counters, Launch, Pool, PoolEntry, PoolKind, PoolName, Starts
from quaymaster.domain.run import Run
from quaymaster.domain.worker import Worker
from quaymaster.ports import Create, Ports

EVENTS_FOLDER = Path(__file__).resolve().parents[3] / "events"
FUNCTIONS = ("dispatch_runs", "reap_overdue", "receive_task_events", "receive_worker_events", "serve_api")
NAMESPACE = "quaymaster"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
QUEUES = "https://sqs.us-east-1.amazonaws.com/123456789012"
ENVIRONMENT = {
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "QUAYMASTER_NAMESPACE": NAMESPACE,
    "QUAYMASTER_TABLE": NAMESPACE,
    "QUAYMASTER_BUCKET": "quaymaster-123456789012-us-east-1",
    "QUAYMASTER_INTERNAL_QUEUE_URL": f"{QUEUES}/quaymaster-internal",
    "QUAYMASTER_DEAD_LETTER_QUEUE_URL": f"{QUEUES}/quaymaster-dead-letters",
    "QUAYMASTER_ECS_CLUSTER": NAMESPACE,
    "QUAYMASTER_WORKER_TASK_DEFINITION": "arn:aws:ecs:us-east-1:123456789012:task-definition/quaymaster-worker:1",
    "QUAYMASTER_SSM_PREFIX": "/quaymaster/quaymaster",
}


CONTEXT = SimpleNamespace(aws_request_id="request-1", get_remaining_time_in_millis=lambda: 30_000)


def event(name: str) -> dict[str, Any]:
    """One of the files."""
    return json.loads((EVENTS_FOLDER / f"{name}.json").read_text())


POOL_ID: str = event("receive_worker_events.registered")["pool_id"]
WORKER_ID: str = event("receive_worker_events.registered")["worker_id"]
STOPPED = event("receive_task_events.stopped")["detail"]
FARGATE_ID: str = STOPPED["group"].removeprefix("family:quaymaster-pool-")
LAUNCH_ID: str = STOPPED["startedBy"]
RUN_ID = ids.run_id(POOL_ID, "deploy-1842")


@dataclass
class World:
    """The functions over ports in memory, and a clock that tests move."""

    store: MemoryStore
    messenger: MemoryMessenger
    queue: MemoryQueue
    blobs: MemoryBlobs
    logged: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    now: datetime = NOW

    def handle(self, name: str) -> Any:
        """Give an event's file to the function it is named for."""
        return self.call(name.partition(".")[0], event(name))

    def call(self, function: str, found: object) -> Any:
        """Call a function with whatever."""
        return importlib.import_module(function).handler(found, CONTEXT)

    def hear(self, *events: str) -> None:
        """Give messages of the agent to their function, one after the other."""
        for name in events:
            self.handle(f"receive_worker_events.{name}")

    def sent(self) -> list[str]:
        """The kinds of the messages to agents since the last look, in order."""
        return [str(getattr(message, "kind", "")) for message in self.messenger.take()]

    def run(self, run_id: str = RUN_ID) -> Run:
        found = self.store.run(run_id)
        assert found
        return found

    def worker(self) -> Worker:
        found = self.store.worker(POOL_ID, WORKER_ID)
        assert found
        return found

    def reasons(self) -> list[str]:
        """Why the dead letters were refused."""
        return [letter.attributes["reason"] for letter in self.queue.refused]


@contextmanager
def environment(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Nothing but what Lambda and the template set, and functions that are not imported yet."""
    kept = (wiring.settings, wiring.ports, wiring.clients, wiring.telemetry)
    for cached in kept:
        cached.cache_clear()
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in FUNCTIONS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in FUNCTIONS:
        sys.modules.pop(name, None)
    for cached in kept:
        cached.cache_clear()


def make_world(monkeypatch: pytest.MonkeyPatch) -> World:
    """The functions with a private pool and a Fargate pool, whose one task is on its way."""

    def clock() -> datetime:
        return made.now

    made = World(MemoryStore(), MemoryMessenger(NAMESPACE), MemoryQueue(clock), MemoryBlobs(clock))
    ports = Ports(
        namespace=NAMESPACE,
        store=made.store,
        messenger=made.messenger,
        queue=made.queue,
        tasks=MemoryTasks(),
        blobs=made.blobs,
        certificates=MemoryCertificates(),
        clock=clock,
        random=lambda size: bytes(range(size)),
        log=lambda name, fields: made.logged.append((name, fields)),
    )
    monkeypatch.setattr(wiring, "ports", lambda: ports)
    _furnish(made.store)
    return made


def _furnish(store: MemoryStore) -> None:
    private = Pool(
        id=POOL_ID,
        name="build",
        kind_of=PoolKind.PRIVATE,
        certificate_id="1",
        certificate_arn="arn:aws:iot:us-east-1:123456789012:cert/1",
        created_at=NOW,
        updated_at=NOW,
    )
    definition = STOPPED["taskDefinitionArn"]
    fargate = replace(private, id=FARGATE_ID, name="cloud", kind_of=PoolKind.FARGATE, task_definition=definition)
    for pool in (private, fargate):
        store.commit(
            Create(pool),
            Create(PoolEntry(pool_id=pool.id, name=pool.name)),
            Create(PoolName(name=pool.name, pool_id=pool.id)),
            Create(Counters(pool_id=pool.id, workers_reserved=1 if pool is fargate else 0)),
            Create(Starts(pool_id=pool.id)),
        )
    launch = Launch(
        id=LAUNCH_ID,
        pool_id=FARGATE_ID,
        count=1,
        task_definition=definition,
        created_at=NOW - timedelta(minutes=2),
        tasks=(STOPPED["taskArn"],),
        answered=True,
        due_at=NOW + timedelta(minutes=3),
    )
    store.commit(Create(launch))
