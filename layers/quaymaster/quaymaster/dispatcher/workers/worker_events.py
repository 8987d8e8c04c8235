"""The messages of the agents, each to its use case."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.workers.begin import prepared, preparing, renew
from quaymaster.dispatcher.workers.finish import goodbye, handed_back, phase_finished
from quaymaster.dispatcher.workers.presence import disconnected
from quaymaster.dispatcher.workers.register import registered
from quaymaster.dispatcher.workers.sender import Sender
from quaymaster.domain import ids
from quaymaster.domain.messages import (
    EVENTS,
    FromAgent,
    Goodbye,
    HandedBack,
    PhaseFinished,
    Prepared,
    Preparing,
    Registered,
    Renew,
    read_from_agent,
)
from quaymaster.domain.requests import refusal
from quaymaster.errors import Refused
from quaymaster.ports import Ports
from quaymaster.telling import describe, describe_name


@dataclass(frozen=True, kw_only=True)
class WorkerEvent:
    """What an IoT rule delivers: ids from the topic, the body as it came (base64), the rule's time."""

    pool_id: str
    worker_id: str
    event: str
    body: str
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class Presence:
    """What the broker says of a connection."""

    client_id: str
    kind: str
    at: datetime


def read_event(event: Mapping[str, object]) -> WorkerEvent | Presence:
    """What an IoT rule delivers, read. Raises Refused, naming the field."""
    at = _time(event)
    if "clientId" in event:
        return Presence(client_id=_text(event, "clientId"), kind=_text(event, "eventType"), at=at)
    return WorkerEvent(
        pool_id=_text(event, "pool_id"),
        worker_id=_text(event, "worker_id"),
        event=_text(event, "event"),
        # An empty payload may come as none at all.
        body=_text({"body": event.get("body") or ""}, "body"),
        received_at=at,
    )


def _text(event: Mapping[str, object], field: str) -> str:
    found = event.get(field)
    if not isinstance(found, str):
        raise Refused(field, "nothing" if found is None else type(found).__name__, "text")
    return found


def _time(event: Mapping[str, object]) -> datetime:
    found = event.get("received_at")
    if not isinstance(found, int) or isinstance(found, bool):
        raise Refused("received_at", describe(found), "milliseconds since 1970")
    try:
        return datetime.fromtimestamp(found / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        raise Refused("received_at", describe(found), "milliseconds since 1970") from None


def receive(ports: Ports, pools: Pools, event: WorkerEvent) -> None:
    """Handle one message of an agent.

    Raises Refused for one that nobody sends (it will never be better), Busy and Unavailable for one that must come
    again. A message of a stale attempt or session changes nothing and is counted.
    """
    message = read_message(event)
    sender = _sender(ports, pools, event.pool_id, event.worker_id, event.received_at)
    match message:
        case Registered():
            registered(ports, pools, sender, message)
        case Preparing():
            preparing(ports, sender, message)
        case Prepared():
            prepared(ports, sender, message)
        case PhaseFinished():
            phase_finished(ports, pools, sender, message)
        case HandedBack():
            handed_back(ports, pools, sender, message)
        case Renew():
            renew(ports, sender, message)
        case Goodbye():
            goodbye(ports, pools, sender, message)
        case _:
            raise Refused("event", describe_name(event.event), f"one of {', '.join(EVENTS)}")


def receive_presence(ports: Ports, pools: Pools, client_id: str, kind: str, at: datetime) -> None:
    """Handle a presence event of the broker; only a lost connection asks for anything."""
    pool_id = ids.pool_of(client_id)
    if kind != "disconnected" or not pool_id or not pools.get(pool_id):
        return
    disconnected(ports, pools, _sender(ports, pools, pool_id, client_id, at))


def read_message(event: WorkerEvent) -> FromAgent:
    """What an agent says. Raises Refused, naming the field."""
    if event.event not in EVENTS:
        raise Refused("event", describe_name(event.event), f"one of {', '.join(EVENTS)}")
    try:
        body = base64.b64decode(event.body, validate=True)
    except ValueError:
        # Also what binascii calls an error; text that is not ASCII is a plain ValueError.
        raise Refused("body", "bytes that are not base64", "the body as the rule encodes it") from None
    try:
        return read_from_agent(event.event, body)
    except ValidationError as error:
        raise refusal(error) from None


def _sender(ports: Ports, pools: Pools, pool_id: str, worker_id: str, at: datetime) -> Sender:
    pool = pools.get(pool_id) if ids.ULID.fullmatch(pool_id) else None
    if not pool or ids.pool_of(worker_id) != pool_id:
        found = f"{describe_name(pool_id)} and {describe_name(worker_id)}"
        raise Refused("topic", found, "a pool and one of its workers")
    # A message cannot come from the future: a wrong clock must not make a silent worker look alive.
    return Sender(pool=pool, worker_id=worker_id, at=min(at, ports.clock()))
