"""The store in memory: what the table guarantees and nothing more, for tests and the simulation."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from quaymaster.adapters.memory.weakness import NoWeakness, Trouble, Weakness
from quaymaster.adapters.records import listing
from quaymaster.adapters.records.actions import actions
from quaymaster.adapters.records.codec import stored
from quaymaster.domain import keys
from quaymaster.domain.images import ImageDefinition
from quaymaster.domain.keys import Key
from quaymaster.domain.pool import Counters, Launch, Pool, PoolEntry, PoolName, Starts, Ticket
from quaymaster.domain.run import Run, Spec
from quaymaster.domain.worker import Agent, Marker, Worker
from quaymaster.errors import Busy, Lost, Unavailable
from quaymaster.ports import Count, Create, Delete, Record, Replace, Require, RunPage, WorkerPage, Write

REMEMBERED = 64
"""How many commits an index can be behind."""


class MemoryStore:
    """Fulfils `ports.Store`; safe to share between threads.

    Records are what they would be after a way through the table: times to the millisecond, a history that fits.
    """

    def __init__(self, weakness: Weakness | None = None) -> None:
        self.weakness: Weakness = weakness or NoWeakness()
        self._records: dict[Key, Record] = {}
        self._before: deque[dict[Key, Record | None]] = deque(maxlen=REMEMBERED)
        self._lock = threading.RLock()

    def commit(self, *writes: Write) -> None:
        by_key = actions(writes)
        with self._lock:
            lost = [key for key, write in by_key.items() if not self._stands(key, write)]
            if lost:
                raise Lost(lost)
            trouble = self.weakness.trouble()
            if trouble is Trouble.BUSY:
                raise Busy("contention, as the weakness has it")
            if trouble is not Trouble.FAILED:
                self._apply(by_key)
            if trouble:
                raise Unavailable("memory", f"{trouble}, as the weakness has it")

    def _apply(self, by_key: dict[Key, Write]) -> None:
        self._before.append({key: self._records.get(key) for key in by_key})
        for key, write in by_key.items():
            match write:
                case Create(record) | Replace(record):
                    self._records[key] = stored(record)
                case Delete():
                    del self._records[key]
                case Count(_, workers, _, reservations, spent):
                    counters = self._records[key]
                    if isinstance(counters, Counters):
                        made = counters.reservations + (reservations is not None)
                        self._records[key] = stored(replace(counters.counted(workers, spent), reservations=made))
                case Require():
                    pass

    def _stands(self, key: Key, write: Write) -> bool:
        found = self._records.get(key)
        match write:
            case Create():
                return found is None
            case Replace(record):
                return found is not None and found.version == record.version - 1
            case Count(_, workers, most, reservations):
                return (
                    isinstance(found, Counters)
                    and (most is None or found.workers_reserved <= most - workers)
                    and reservations in (None, found.reservations)
                )
            case Delete(record) | Require(record):
                return found is not None and found.version == record.version

    def _indexed(self) -> list[Record]:
        """What the indexes know of, which may be behind."""
        with self._lock:
            seen: dict[Key, Record | None] = dict(self._records)
            lag = self.weakness.lag()
            for before in list(reversed(self._before))[:lag]:
                seen |= before
        return [record for record in seen.values() if record]

    def records(self) -> list[Record]:
        """Everything that lies in the table, by key: what a checker of invariants looks at."""
        with self._lock:
            return [self._records[key] for key in sorted(self._records, key=_order)]

    def _get[T: Record](self, kind: type[T], key: Key) -> T | None:
        with self._lock:
            found = self._records.get(key)
        return found if isinstance(found, kind) else None

    def _range[T: Record](self, kind: type[T], pk: str, prefix: str) -> Iterator[T]:
        with self._lock:
            held = sorted((key for key in self._records if key.pk == pk and key.sk.startswith(prefix)), key=_order)
            found = [self._records[key] for key in held]
        return (record for record in found if isinstance(record, kind))

    def pool(self, pool_id: str) -> Pool | None:
        return self._get(Pool, keys.pool(pool_id))

    def pool_named(self, name: str) -> str | None:
        found = self._get(PoolName, keys.pool_name(name))
        return found and found.pool_id

    def pools(self) -> list[PoolEntry]:
        return list(self._range(PoolEntry, keys.POOLS, "pool#"))

    def counters(self, pool_id: str) -> Counters | None:
        return self._get(Counters, keys.counters(pool_id))

    def starts(self, pool_id: str) -> Starts | None:
        return self._get(Starts, keys.starts(pool_id))

    def run(self, run_id: str) -> Run | None:
        return self._get(Run, keys.run(run_id))

    def run_and_spec(self, run_id: str) -> tuple[Run, Spec] | None:
        with self._lock:
            run, spec = self._get(Run, keys.run(run_id)), self._get(Spec, keys.spec(run_id))
        return (run, spec) if run and spec else None

    def runs(self, run_ids: Iterable[str]) -> dict[str, Run]:
        found = {run_id: self.run(run_id) for run_id in run_ids}
        return {run_id: run for run_id, run in found.items() if run}

    def specs(self, run_ids: Iterable[str]) -> dict[str, Spec]:
        found = {run_id: self._get(Spec, keys.spec(run_id)) for run_id in run_ids}
        return {run_id: spec for run_id, spec in found.items() if spec}

    def worker(self, pool_id: str, worker_id: str) -> Worker | None:
        with self._lock:
            now = self._get(Worker, keys.worker(pool_id, worker_id))
            return now or self._get(Worker, keys.past_worker(pool_id, worker_id))

    def workers(self, pool_id: str) -> list[Worker]:
        return list(self._range(Worker, keys.pool_partition(pool_id), "worker#"))

    def workers_of(self, pool_id: str, limit: int, cursor: str | None = None, *, over: bool = False) -> WorkerPage:
        after = listing.behind_worker(listing.read_worker_cursor(cursor) if cursor else "")
        pk = keys.past_partition(pool_id) if over else keys.pool_partition(pool_id)
        found = [worker for worker in self._range(Worker, pk, "worker#") if worker.key.sk >= after]
        return listing.page_of_workers(found[: limit + 1], limit)

    def agents(self, pool_id: str, worker_ids: Iterable[str]) -> dict[str, Agent]:
        found = {worker_id: self.agent(pool_id, worker_id) for worker_id in worker_ids}
        return {worker_id: agent for worker_id, agent in found.items() if agent}

    def agent(self, pool_id: str, worker_id: str) -> Agent | None:
        return self._get(Agent, keys.agent(pool_id, worker_id))

    def idle(self, pool_id: str, limit: int) -> list[Marker]:
        return list(self._range(Marker, keys.pool_partition(pool_id), "idle#"))[:limit]

    def tickets(self, pool_id: str, limit: int) -> list[Ticket]:
        return list(self._range(Ticket, keys.pool_partition(pool_id), "ticket#"))[:limit]

    def bound(self, pool_id: str, limit: int) -> list[Ticket]:
        return list(self._range(Ticket, keys.pool_partition(pool_id), "bound#"))[:limit]

    def image_definition(self, pool_id: str, made_from: str, image: str) -> ImageDefinition | None:
        return self._get(ImageDefinition, keys.image_definition(pool_id, made_from, image))

    def image_definitions(self, pool_id: str) -> list[ImageDefinition]:
        return list(self._range(ImageDefinition, keys.pool_partition(pool_id), "image#"))

    def launch(self, pool_id: str, launch_id: str) -> Launch | None:
        return self._get(Launch, keys.launch(pool_id, launch_id))

    def launches(self, pool_id: str) -> list[Launch]:
        return list(self._range(Launch, keys.pool_partition(pool_id), "launch#"))

    def overdue(self, now: datetime, limit: int) -> list[Key]:
        due = [
            (record.due_at, *_order(record.key), record.key)
            for record in self._indexed()
            if isinstance(record, Run | Worker) and record.due_at and record.due_at <= now
        ]
        return [entry[-1] for entry in sorted(due, key=lambda entry: entry[:3])[:limit]]

    def due(self, key: Key) -> Run | Worker | Launch | None:
        with self._lock:
            found = self._records.get(key)
        return found if isinstance(found, Run | Worker | Launch) else None

    def runs_of(self, pool_id: str, limit: int, cursor: str | None = None) -> RunPage:
        before = listing.read_cursor(cursor) if cursor else listing.BEHIND_ALL
        listed = (listing.position(run) for run in self._indexed() if isinstance(run, Run) and run.pool_id == pool_id)
        entries = sorted((at for at in listed if at < before), reverse=True)
        runs = self.runs(listing.run_of(at) for at in entries[:limit])
        return RunPage(tuple(runs.values()), listing.cursor(entries[limit - 1]) if len(entries) > limit else None)


def _order(key: Key) -> tuple[bytes, bytes]:
    # The table sorts strings by their UTF-8 bytes.
    return key.pk.encode(), key.sk.encode()
