"""The request queue's records: run requests, sent directly or by MQTT, and wake-ups.

A record is acknowledged after its write: a crash in between repeats it, and the repetition finds its run. What is
malformed is refused once, into the dead-letter queue with its reason, and the rest of the batch goes on.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from longshore.dispatcher.drafts import Submission
from longshore.dispatcher.lifetime import in_time
from longshore.dispatcher.match import match
from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.reap import look
from longshore.dispatcher.submit import Submitted, submit
from longshore.domain.requests import Reply, RunRequest, describe, read_request
from longshore.domain.wakes import read_wake
from longshore.errors import LongshoreError, NotFound, Refused
from longshore.ports import Ports, Wake

LONGEST_TOLD = 256
"""Bytes of a topic, which is IoT's limit, and of an id, that are repeated to whoever sent a malformed request."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A message of the request queue."""

    id: str
    body: str


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What the MQTT rule wraps a request in: the client from the topic, the payload as it came."""

    client: str
    payload: bytes


def receive_batch(ports: Ports, pools: Pools, records: Sequence[Record], until: datetime) -> list[str]:
    """Handle a batch; the ids of the records that must come again, those not begun by `until` among them.

    Requests come first, because a wake-up may look at something that hangs; the sweep does what a wake-up does.
    """
    again: list[str] = []
    submissions: dict[str, Submission] = {}
    wakes: dict[str, Wake] = {}
    for record in records:
        try:
            found = read_record(record)
            if isinstance(found, Wake):
                wakes[record.id] = found
            else:
                submissions[record.id] = found
        except Refused as refused:
            again += _refuse(ports, record, refused)
        except Exception as error:  # whatever one record brings, the rest of the batch goes on
            again.append(_later(ports, record, error))
    by_submission = {id(submission): record_id for record_id, submission in submissions.items()}
    bodies = {record.id: record for record in records}
    for outcome in submit(ports, pools, list(submissions.values()), until):
        record = bodies[by_submission[id(outcome.submission)]]
        try:
            again += _conclude(ports, record, outcome)
        except Exception as error:  # as above
            again.append(_later(ports, record, error))
    for record_id, wake in wakes.items():
        try:
            in_time(ports, until)
            _wake(ports, pools, wake)
        except Exception as error:  # as above
            again.append(_later(ports, bodies[record_id], error))
    return again


def read_record(record: Record) -> Submission | Wake:
    """What a message of the request queue asks for. Raises Refused for one that is malformed."""
    envelope = open_envelope(record.body)
    if envelope:
        request = read_request(envelope.payload)
        if request.id is None:
            # A QoS 1 publish that is repeated becomes another SQS message: only its own id tells that it is the same.
            raise Refused("id", "nothing", "an id of the requester's own: MQTT may deliver a request twice")
        _check_reply(request, envelope.client)
        return Submission(request=request, delivery=f"sqs:{record.id}", by=f"mqtt {envelope.client}"[:40])
    wake = read_wake(record.body)
    if wake:
        return wake
    return Submission(request=read_request(record.body), delivery=f"sqs:{record.id}", by="sqs")


def open_envelope(body: str) -> Envelope | None:
    """What the MQTT rule wrapped, or None for a message that came directly. Raises Refused for a broken one."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    fields = cast("dict[str, Any]", found)
    if not isinstance(fields.get("body"), str) or not isinstance(fields.get("client_id"), str):
        return None
    try:
        payload = base64.b64decode(fields["body"], validate=True)
    except ValueError:
        # Also what binascii calls an error; text that is not ASCII is a plain ValueError.
        raise Refused("body", "bytes that are not base64", "the body as the rule encodes it") from None
    return Envelope(client=fields["client_id"], payload=payload)


def _check_reply(request: RunRequest, client: str) -> None:
    if request.reply_to is None:
        return
    parts = request.reply_to.split("/")
    if len(parts) < 3 or parts[1] != "replies" or parts[2] != client or any(mark in request.reply_to for mark in "+#"):
        raise Refused("reply_to", describe(request.reply_to), f"a topic <namespace>/replies/{client}")


def _wake(ports: Ports, pools: Pools, wake: Wake) -> None:
    if wake.key:
        look(ports, pools, wake.key)
    else:
        match(ports, pools, wake.pool_id)


def _conclude(ports: Ports, record: Record, outcome: Submitted) -> list[str]:
    if isinstance(outcome.error, Refused | NotFound) and not outcome.run:
        return _refuse(ports, record, outcome.error, outcome.submission.request)
    if outcome.error:
        return [_later(ports, record, outcome.error)]
    run, request = outcome.run, outcome.submission.request
    if run and request.reply_to:
        answer = Reply(id=request.id, accepted=True, run=run.id, state=run.state)
        return _reply(ports, record, request.reply_to, answer)
    return []


def _refuse(ports: Ports, record: Record, refused: LongshoreError, request: RunRequest | None = None) -> list[str]:
    """Refuse a record once: into the dead-letter queue with its reason, and to whoever waits for a reply."""
    ports.log("request_refused", {"record": record.id, "note": str(refused)[:200]})
    try:
        ports.queue.refuse(record.body, str(refused), "requests")
    except LongshoreError as error:
        return [_later(ports, record, error)]
    topic, request_id = _reply_topic(record, request)
    if topic:
        answer = Reply(id=request_id, accepted=False, error=str(refused))
        return _reply(ports, record, topic, answer)
    return []


def _reply_topic(record: Record, request: RunRequest | None) -> tuple[str | None, str | None]:
    """Where a refusal is told, read from a request that may itself be malformed."""
    if request:
        return request.reply_to, request.id
    try:
        envelope = open_envelope(record.body)
        found = json.loads(envelope.payload if envelope else record.body)
    except (Refused, ValueError, RecursionError):
        return None, None
    if not isinstance(found, dict):
        return None, None
    fields = cast("dict[str, Any]", found)
    topic, request_id = _told(fields.get("reply_to")), _told(fields.get("id"))
    if topic is None or (envelope and topic.split("/")[1:3] != ["replies", envelope.client]):
        return None, None
    return topic, request_id


def _told(found: object) -> str | None:
    """A text that can be sent; JSON can also bring half surrogates, which cannot."""
    if not isinstance(found, str):
        return None
    try:
        return found if len(found.encode()) <= LONGEST_TOLD else None
    except UnicodeEncodeError:
        return None


def _reply(ports: Ports, record: Record, topic: str, answer: Reply) -> list[str]:
    """Answer; a lost answer is no reason to repeat a request that stands in the table."""
    try:
        ports.messenger.reply(topic, answer)
    except LongshoreError as error:
        ports.log("reply_not_sent", {"record": record.id, "note": str(error)[:120]})
    return []


def _later(ports: Ports, record: Record, error: Exception) -> str:
    ports.log("record_comes_again", {"record": record.id, "note": f"{type(error).__name__}: {error}"[:200]})
    return record.id
