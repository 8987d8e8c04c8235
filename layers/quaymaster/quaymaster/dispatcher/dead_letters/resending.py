"""Where a dead letter goes when it is sent again, and as what.

Only what SQS, a rule or a function says of a letter decides which function hears of it, and who asked: a request,
whatever it holds, goes to the internal queue and nowhere else, with whoever sent it at first.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from quaymaster.dispatcher.dead_letters.bodies import read_mapping, unwrap
from quaymaster.dispatcher.dead_letters.showing import EVENT_SOURCES, Writer, origin_of
from quaymaster.dispatcher.requests.drafts import check_request
from quaymaster.dispatcher.requests.inbox import SOURCES
from quaymaster.dispatcher.requests.queue_records import Record, read_record, wrap
from quaymaster.dispatcher.users.pools import find_pool
from quaymaster.dispatcher.workers.worker_events import WorkerEvent, read_event, read_message
from quaymaster.domain import ids
from quaymaster.errors import Refused
from quaymaster.ports import DeadLetter, FunctionName, Ports, QueueName, Wake
from quaymaster.telling import describe, describe_name

DISPATCH_RUNS = "dispatch-runs"


@dataclass(frozen=True, kw_only=True)
class Resending:
    """A letter's content as it is sent: to a function, or to the internal queue. `run` is what a request leads to."""

    body: str
    function: FunctionName | None = None
    run: str | None = None

    @property
    def to(self) -> str:
        """Where it goes, in words."""
        return self.function or DISPATCH_RUNS


def readdress(ports: Ports, letter: DeadLetter) -> Resending:
    """The letter as it can be sent again. Raises Refused or NotFound for one that would only fail once more."""
    origin = origin_of(letter)
    match origin.writer:
        case Writer.QUEUE | Writer.DISPATCHER:
            return _request(ports, _record(letter))
        case Writer.EVENTS:
            return _event(EVENT_SOURCES[origin.source], read_mapping(letter.body))
        case Writer.EVENTBRIDGE:
            return _event(_function(letter.attributes.get("TARGET_ARN", "")), read_mapping(letter.body))
        case Writer.FUNCTION:
            body = read_mapping(letter.body)
            context, payload = (cast("dict[str, Any]", body.get(name) or {}) for name in _INVOCATION)
            return _event(_function(str(context.get("functionArn", ""))), payload)
        case Writer.RULE:
            return _rule(ports, letter, read_mapping(letter.body))


_INVOCATION = ("requestContext", "requestPayload")


def _record(letter: DeadLetter) -> Record:
    """The message that became the letter, as the dispatcher had it."""
    if letter.moved_from:
        return Record(id=letter.id, body=letter.body, sender=letter.sender, queue=letter.moved_from)
    queue = next(
        (queue for queue, source in SOURCES.items() if source == letter.attributes.get("source")), QueueName.REQUESTS
    )
    return Record(id=letter.id, body=letter.body, sender=letter.attributes.get("sender", ""), queue=queue)


def _request(ports: Ports, record: Record) -> Resending:
    found = read_record(record)
    if isinstance(found, Wake):
        return Resending(body=record.body)
    pool = find_pool(ports.store, found.request.pool)
    check_request(found.request, pool)
    # The delivery is what a request without an id was known by: SQS keeps a message's id when it moves it.
    request_id = found.request.id or found.delivery
    return Resending(body=wrap(found, request_id), run=ids.run_id(pool.id, request_id))


def _function(arn: str) -> FunctionName:
    """The function that an ARN names; a namespace has no hyphen."""
    name = arn.partition(":function:")[2].partition(":")[0].partition("-")[2]
    try:
        return FunctionName(name)
    except ValueError:
        raise Refused(
            "function", describe_name(name), "worker and task events only; a sweep is made up for by the next"
        ) from None


def _event(function: FunctionName, event: object) -> Resending:
    if not isinstance(event, Mapping) or not event:
        raise Refused("event", "no JSON object", "an event as the function got it")
    if function is FunctionName.RECEIVE_WORKER_EVENTS:
        found = read_event(cast("Mapping[str, object]", event))
        if isinstance(found, WorkerEvent):
            read_message(found)
    return Resending(body=json.dumps(event), function=function)


def _rule(ports: Ports, letter: DeadLetter, record: dict[str, Any]) -> Resending:
    """What a rule could not deliver, made into what it would have delivered."""
    parts = str(record.get("topic", "")).split("/")
    payload, at = record.get("base64OriginalPayload", ""), int(letter.sent_at.timestamp() * 1000)
    match parts:
        case [_, "requests", client]:
            said = json.dumps({"body": payload, "client_id": client})
            return _request(ports, Record(id=letter.id, body=said, queue=QueueName.INTERNAL))
        case [_, "from", pool_id, worker_id, event]:
            said = {"pool_id": pool_id, "worker_id": worker_id, "event": event, "body": payload, "received_at": at}
            return _event(FunctionName.RECEIVE_WORKER_EVENTS, said)
        case ["$aws", "events", "presence", event, _]:
            said = {**unwrap(payload), "event": event, "received_at": at}
            return _event(FunctionName.RECEIVE_WORKER_EVENTS, said)
        case _:
            raise Refused("topic", describe(record.get("topic")), "a topic of this deployment's rules")
