"""A whole control plane in memory: a clock that is set by hand, behaving ports, and a count of the calls."""

import base64
import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, cast

from quaymaster.adapters.memory.blobs import MemoryBlobs
from quaymaster.adapters.memory.certificates import MemoryCertificates
from quaymaster.adapters.memory.messenger import MemoryMessenger
from quaymaster.adapters.memory.queue import MemoryQueue
from quaymaster.adapters.memory.store import MemoryStore
from quaymaster.adapters.memory.tasks import MemoryTasks
from quaymaster.dispatcher.lifetime import usable
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.reaper.due import Reaped
from quaymaster.dispatcher.reaper.tick import tick
from quaymaster.dispatcher.requests.inbox import receive_batch
from quaymaster.dispatcher.requests.queue_records import Record as QueueRecord
from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.dispatcher.users.views import show_pool
from quaymaster.dispatcher.workers.task_events import TakenBack, TaskStopped, taken_back, task_stopped
from quaymaster.dispatcher.workers.worker_events import WorkerEvent, receive, receive_presence
from quaymaster.domain import ids
from quaymaster.domain.api import PoolView
from quaymaster.domain.messages import FromAgent, ToAgent
from quaymaster.domain.pool import Counters, Pool, PoolEntry, PoolKind, PoolName, PoolSettings, Starts
from quaymaster.domain.run import Run
from quaymaster.domain.worker import Worker
from quaymaster.ports import Create, Ports, QueueName, Store

from tests.shared.memory.records import NOW, POOL, a_pool

NAMESPACE = "quaymaster"
HERE = Deployment(namespace=NAMESPACE, ssm_prefix=f"/quaymaster/{NAMESPACE}", bucket="bucket", region="us-east-1")


class CountedStore:
    """A store that counts its calls, and may be told to do something before each."""

    def __init__(self, store: MemoryStore) -> None:
        self.calls: Counter[str] = Counter()
        self.before: Callable[[str], None] = lambda name: None
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = cast("Callable[..., object]", getattr(self._store, name))

        @wraps(method)
        def counted(*arguments: object, **named: object) -> object:
            self.before(name)
            self.calls[name] += 1
            return method(*arguments, **named)

        return counted


class Broker(MemoryMessenger):
    """A broker that may be told to do something before each publish."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.before: Callable[[str], None] = lambda name: None

    def send(self, pool_id: str, worker_id: str, message: ToAgent, expires: timedelta | None = None) -> None:
        self.before("send")
        super().send(pool_id, worker_id, message, expires)


class World:
    """The control plane of one deployment with one pool; `LIFE` is its dispatcher's time limit."""

    LIFE = timedelta(seconds=30)

    def __init__(self, kind: PoolKind = PoolKind.PRIVATE, seed: int = 1, **settings: Any) -> None:
        self.now = NOW
        self.table = MemoryStore()
        self.store = CountedStore(self.table)
        self.messenger = Broker(NAMESPACE)
        self.queue = MemoryQueue(self.clock)
        self.tasks = MemoryTasks()
        self.blobs = MemoryBlobs(self.clock)
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.random = random.Random(seed)
        self.ports = Ports(
            namespace=NAMESPACE,
            store=cast("Store", self.store),
            messenger=self.messenger,
            queue=self.queue,
            tasks=self.tasks,
            blobs=self.blobs,
            certificates=MemoryCertificates(),
            clock=self.clock,
            random=self.random.randbytes,
            log=lambda event, fields: self.logged.append((event, fields)),
        )
        self.pools = Pools(self.ports.store, self.clock)
        self.pool = self._make_pool(kind, PoolSettings(**settings))
        self._numbers = 0

    def clock(self) -> datetime:
        return self.now

    @property
    def until(self) -> datetime:
        """Until when a function that is called now may begin something."""
        return self.now + usable(self.LIFE)

    def _make_pool(self, kind: PoolKind, settings: PoolSettings) -> Pool:
        definition = f"arn:aws:ecs:us-east-1:000000000000:task-definition/{NAMESPACE}-pool-{POOL}:1"
        pool = a_pool(kind_of=kind, settings=settings, task_definition=definition if kind is PoolKind.FARGATE else None)
        self.table.commit(
            Create(pool),
            Create(PoolEntry(pool_id=pool.id, name=pool.name)),
            Create(PoolName(name=pool.name, pool_id=pool.id)),
            Create(Counters(pool_id=pool.id)),
            Create(Starts(pool_id=pool.id)),
        )
        return pool

    # What comes in.

    def request(self, *requests: object, queue: QueueName = QueueName.REQUESTS, **fields: object) -> list[str]:
        """Deliver requests as one batch of the queue (without any, one made of `fields`); what must come again."""
        bodies = [body if isinstance(body, str) else json.dumps(body) for body in requests or [fields]]
        records: list[QueueRecord] = []
        for body in bodies:
            self._numbers += 1
            records.append(QueueRecord(id=f"message-{self._numbers}", body=body, sender="AIDA", queue=queue))
        return receive_batch(self.ports, self.pools, records, self.until)

    def submit(self, name: str = "r1", **fields: object) -> Run:
        """Deliver one request of that id; the run it leads to."""
        assert self.request({"schema": 1, "id": name, "pool": self.pool.name, "command": ["true"], **fields}) == []
        return self.run(name)

    def hear(self, worker_id: str, event: str, message: FromAgent | bytes, at: datetime | None = None) -> None:
        """Deliver an agent's message as the rule does; `at` is when it came to the broker."""
        body = message if isinstance(message, bytes) else message.encode()
        receive(
            self.ports,
            self.pools,
            WorkerEvent(
                pool_id=self.pool.id,
                worker_id=worker_id,
                event=event,
                body=base64.b64encode(body).decode(),
                received_at=at or self.now,
            ),
        )

    def disconnect(self, worker_id: str, at: datetime | None = None) -> None:
        """The broker lost the connection."""
        receive_presence(self.ports, self.pools, worker_id, "disconnected", at or self.now)

    def stop_task(self, arn: str, **fields: str | float) -> None:
        """A task has stopped, and ECS says so."""
        task = self.tasks.tasks[arn]
        self.tasks.end(arn, "stopped")
        task_stopped(
            self.ports,
            self.pools,
            TaskStopped(pool_id=self.pool.id, launch_id=task.launch_id, task_arn=arn, **cast("Any", fields)),
        )

    def take_back(self, arn: str) -> None:
        """ECS says that it takes a task's Spot capacity back; the task has two minutes more."""
        taken_back(self.ports, self.pools, TakenBack(pool_id=self.pool.id, task_arn=arn))

    # What passes.

    def wait(self, seconds: float) -> None:
        """Let time pass, and nothing else happen."""
        self.now += timedelta(seconds=seconds)

    def silence(self, after: float) -> Reaped:
        """The reaper's turns after so long a silence: it asks once more, and hears nothing."""
        first = self.sweep(after)
        self.sweep(after=16)
        return first

    def sweep(self, after: float = 0) -> Reaped:
        """The reaper's turn, after some time."""
        self.wait(after)
        found = tick(self.ports, self.pools, timedelta(minutes=1))
        return Reaped(due=found["due"], failed=found["failed"])

    def ring(self) -> list[str]:
        """Deliver the wake-ups that are due; what must come again."""
        bodies = self.queue.take()
        return self.request(*bodies, queue=QueueName.INTERNAL) if bodies else []

    # What stands.

    def shown(self) -> PoolView:
        """The pool as the API shows it."""
        return show_pool(self.table, self.pool, HERE, self.now)

    def run(self, name: str) -> Run:
        found = self.table.run(ids.run_id(self.pool.id, name))
        assert found, f"no run of request {name}"
        return found

    def worker(self, worker_id: str) -> Worker:
        found = self.table.worker(self.pool.id, worker_id)
        assert found, f"no worker {worker_id}"
        return found

    def reserved(self) -> int:
        counters = self.table.counters(self.pool.id)
        return counters.workers_reserved if counters else 0

    def counted(self, event: str) -> int:
        """How often an event was logged."""
        return sum(found == event for found, _ in self.logged)


class Crash(BaseException):
    """The function was killed."""


def crash_before(world: World, call: str) -> None:
    """Kill whoever calls the store so."""

    def crash(name: str) -> None:
        if name == call:
            raise Crash

    world.store.before = crash
