"""Identifiers: ULIDs, the run id that a request leads to, worker ids and MQTT topics."""

import hashlib
import re
from datetime import datetime

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
CONTAINER = "worker"
"""The container of a task that is the worker; the definition may have others beside it."""
NAMESPACE = re.compile(r"[a-z][a-z0-9]{2,19}")
WORKER_NAME = re.compile(r"[0-9A-Za-z]{8,64}")
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,64}")


def ulid(at: datetime, randomness: bytes) -> str:
    """A ULID of 48 bits of milliseconds and 80 bits of randomness (10 bytes)."""
    return _crockford(int(at.timestamp() * 1000) << 80 | int.from_bytes(randomness[:10]))


def run_id(pool_id: str, request_id: str) -> str:
    """The run that a request leads to: the same for every delivery of the same request, so a duplicate finds it.

    128 bits of SHA-256 in ULID spelling; its order says nothing.
    """
    return _crockford(int.from_bytes(hashlib.sha256(f"{pool_id}\n{request_id}".encode()).digest()[:16]))


def _crockford(value: int) -> str:
    digits = [_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5)]
    return "".join(digits)


def worker_id(namespace: str, pool_id: str, name: str) -> str:
    """The id of a worker, which is its MQTT client id: `<namespace>.<pool>.<ulid or ECS task id>`."""
    return f"{namespace}.{pool_id}.{name}"


def pool_of(worker: str) -> str | None:
    """The pool that a worker id names, or None when the id is not one of ours."""
    parts = worker.split(".")
    return parts[1] if len(parts) == 3 and ULID.fullmatch(parts[1]) and WORKER_NAME.fullmatch(parts[2]) else None


def worker_name(worker: str) -> str:
    """The last part of a worker id: what tells it from the others of its pool; of a Fargate worker, its task's id."""
    return worker.rpartition(".")[2]


def task_id(task_arn: str) -> str:
    """The last part of an ECS task ARN: the name of the worker that runs in it."""
    return task_arn.rpartition("/")[2]


def topic_to(namespace: str, pool_id: str, worker: str) -> str:
    """Where one worker listens; `worker` is a worker id, or `all` for every worker of the pool."""
    return f"{namespace}/to/{pool_id}/{worker}"


def topic_from(namespace: str, pool_id: str, worker: str, event: str) -> str:
    """Where a worker publishes an event."""
    return f"{namespace}/from/{pool_id}/{worker}/{event}"
