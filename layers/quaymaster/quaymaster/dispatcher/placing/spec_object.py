"""A command and an environment that no message carries: an object in the bucket, named by what is in it.

It is written before the run is, so that a run never stands in the table without it. Two requests of one id and other
contents write two objects, and each run finds its own.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from quaymaster.domain import objects
from quaymaster.domain.messages import WorkspaceGrant
from quaymaster.domain.phases import Phase
from quaymaster.domain.run import Run, Spec
from quaymaster.ports import Ports

MOST_IN_A_MESSAGE = 64 * 1024
"""Bytes of an assignment's 128 KiB over MQTT; its grants, with long session tokens, have the rest."""


def keep(ports: Ports, pool_id: str, spec: Spec) -> None:
    """Write the object, if the spec needs one; writing it twice changes nothing. Raises Unavailable."""
    if body := _large(spec):
        ports.blobs.write_input(_key(pool_id, spec, body), body)


def grant_for(ports: Ports, run: Run, spec: Spec, life: timedelta) -> WorkspaceGrant | None:
    """Permission to read the object, if there is one. Calls nothing."""
    body = _large(spec)
    if not body:
        return None
    return ports.blobs.workspace(_key(run.pool_id, spec, body), hashlib.sha256(body).hexdigest(), life)


def contents(phase: Phase) -> dict[str, Any]:
    """What of a phase may be large, as an assignment and the object have it."""
    return phase.model_dump(mode="json", include={"command", "environment", "before", "after"})


def _strings(spec: Spec) -> Iterator[str]:
    yield from (*spec.command, *(word for command in spec.on_end for word in command))
    for environment in (spec.environment, *(phase.environment for phase in spec.phases)):
        for name, text in environment.items():
            yield name
            yield text
    for phase in spec.phases:
        for command in phase.commands:
            yield from command


def _key(pool_id: str, spec: Spec, body: bytes) -> str:
    return objects.spec_key(pool_id, spec.run_id, hashlib.sha256(body).hexdigest())


def _large(spec: Spec) -> bytes | None:
    """The object of a spec that needs one."""
    strings = list(_strings(spec))
    if 6 * (sum(map(len, strings)) + len(strings)) + 1024 <= MOST_IN_A_MESSAGE:
        # None becomes more than six bytes in JSON, and beside each stand six at most: nearly every spec is so small.
        return None
    body = _body(spec)
    return body if len(body) > MOST_IN_A_MESSAGE else None


def _body(spec: Spec) -> bytes:
    found: dict[str, Any] = {"command": list(spec.command), "environment": spec.environment}
    if spec.phases:
        found["phases"] = [contents(phase) for phase in spec.phases]
    if spec.on_end:
        found["on_end"] = spec.on_end
    return json.dumps(found, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
