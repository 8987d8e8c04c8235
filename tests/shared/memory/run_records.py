"""Runs and logs in a memory store and bucket, at any point of their lives."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from quaymaster.dispatcher.users.pools import find_pool
from quaymaster.domain import objects
from quaymaster.domain.ids import run_id, worker_id
from quaymaster.domain.messages import LogDigest, LogEnd, Outcome
from quaymaster.domain.pool import ticket_for
from quaymaster.domain.requests import RunType
from quaymaster.domain.run import Run, Spec, Timeouts, accepted, begun, claimed, finished
from quaymaster.domain.states import RunState
from quaymaster.domain.worker import Agent, Marker, Worker, WorkerState, freed
from quaymaster.ports import Create, Delete, Replace

from tests.shared.memory.api_calls import InProcessApi

SESSION = "01KDYAK34850000000000000SN"
WORKER = "0123456789abcdef"


def add_run(api: InProcessApi, pool: str = "red", request: str = "one", **changes: Any) -> Run:
    """A READY run with its ticket."""
    found = find_pool(api.store, pool)
    run = Run(
        id=run_id(found.id, request),
        pool_id=found.id,
        type=changes.pop("type", RunType.TASK),
        stack=changes.pop("stack", None),
        state=RunState.READY,
        accepted_at=api.clock(),
    )
    run = replace(accepted(run, api.clock(), "sqs"), **changes)
    spec = Spec(run_id=run.id, request_id=request, command=("sh", "-c", "true"), environment={"SECRET": "hunter2"})
    api.store.commit(Create(run), Create(spec), Create(ticket_for(run)))
    return run


def prepare(api: InProcessApi, run: Run, worker: str = WORKER) -> Run:
    """Give it to a worker."""
    pool = api.store.pool(run.pool_id)
    assert pool
    timeouts = Timeouts(log=pool.settings.log_timeout, run=pool.settings.run_timeout)
    name = worker_id("quaymaster", run.pool_id, worker)
    held = claimed(run, name, SESSION, api.clock(), timeouts, api.clock())
    ticket = ticket_for(run)
    waits = ticket in api.store.tickets(run.pool_id, 100)
    api.store.commit(Replace(held), *([Delete(ticket)] if waits else []))
    return held


def begin(api: InProcessApi, run: Run, worker: str = WORKER) -> Run:
    """Have it running."""
    return _put(api, begun(prepare(api, run, worker), api.clock()))


def end(api: InProcessApi, run: Run, outcome: Outcome, log: LogDigest | None = None) -> Run:
    """Have it ended as its worker told."""
    return _put(api, finished(run, outcome, log, api.clock(), "worker"))


def _put(api: InProcessApi, run: Run) -> Run:
    api.store.commit(Replace(run))
    return run


def pack_lines(lines: Sequence[str], stream: str = "output") -> bytes:
    """Lines as they lie in a log."""
    rows = (
        json.dumps({"ts": "2026-01-02T03:04:05.000Z", "phase": "perform", "stream": stream, "msg": one})
        for one in lines
    )
    return gzip.compress("".join(f"{row}\n" for row in rows).encode())


def ship(api: InProcessApi, run: Run, sequence: int, lines: Sequence[str], stream: str = "output") -> str:
    """Put a chunk into the bucket; its key."""
    name = objects.chunk_name(sequence)
    key = objects.chunk_prefix(run.pool_id, run.id, run.attempt) + name
    api.blobs.write(key, pack_lines(lines, stream))
    return key


def complete(api: InProcessApi, run: Run, lines: Sequence[str], outcome: Outcome, *, whole: bool = True) -> None:
    """Put the final log and its end marker into the bucket."""
    digest = LogDigest(lines=len(lines), bytes=sum(map(len, lines)), complete=whole)
    api.blobs.write(objects.log_key(run.pool_id, run.id, run.attempt), pack_lines(lines))
    marker = LogEnd(run=run.id, attempt=run.attempt, digest=digest, outcome=outcome)
    api.blobs.write(
        objects.log_end_key(run.pool_id, run.id, run.attempt), marker.model_dump_json(by_alias=True).encode()
    )


def add_worker(api: InProcessApi, state: WorkerState, name: str = WORKER, pool: str = "red") -> Worker:
    """A worker of a pool, with what its agent said."""
    found = find_pool(api.store, pool)
    worker = Worker(
        id=worker_id("quaymaster", found.id, name),
        pool_id=found.id,
        state=state,
        session=SESSION,
        created_at=api.clock(),
        seen_at=api.clock(),
    )
    writes = [Create(worker), Create(Agent(pool_id=found.id, worker_id=worker.id, metadata={"host": "h1"}))]
    if state is WorkerState.IDLE:
        idle, _ = freed(worker, "aaaa", api.clock())
        worker = replace(idle, version=1)
        writes = [Create(worker), Create(Marker(random="aaaa", worker=worker)), writes[1]]
    api.store.commit(*writes)
    return worker


FINISHED = Outcome(end="FINISHED", exit_code=0)
