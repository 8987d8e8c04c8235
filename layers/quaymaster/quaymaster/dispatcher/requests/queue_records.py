"""What lies in the two queues, and whose word it is.

Requesters write to the request queue whatever they like: every message there is a request, and who sent it is what SQS
says, never what the message says. Only the MQTT rule and the functions may write to the internal queue (IAM sees to
it): requests beside which they have written who asked, and wake-ups.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any, cast

from quaymaster.dispatcher.requests.drafts import Submission
from quaymaster.domain.requests import REQUEST_ID, RunRequest, read_request
from quaymaster.domain.wakes import read_wake
from quaymaster.errors import Refused
from quaymaster.ports import QueueName, Wake
from quaymaster.telling import describe, is_plain

LONGEST_TOLD = 256
"""Bytes of a topic, which is IoT's limit, and of an id, that are repeated to whoever sent a malformed request."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A message of one of the queues; `sender` is what SQS says of who sent it."""

    id: str
    body: str
    sender: str = ""
    queue: QueueName = QueueName.REQUESTS


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A request with who sent it. `client` is set for one that came by MQTT: the client that its topic names."""

    payload: bytes
    by: str
    requester: str
    client: str | None = None
    note: str = ""


def read_record(record: Record) -> Submission | Wake:
    """What a message asks for. Raises Refused for one that is malformed."""
    delivery = f"sqs:{record.id}"
    if record.queue is QueueName.REQUESTS:
        return Submission(request=read_request(record.body), delivery=delivery, by="sqs", requester=record.sender)
    wake = read_wake(record.body)
    if wake:
        return wake
    envelope = open_envelope(record.body)
    request = read_request(envelope.payload)
    if envelope.client is not None:
        if request.id is None:
            # A QoS 1 publish that is repeated becomes another SQS message: only its own id tells that it is the same.
            raise Refused("id", "nothing", "an id of the requester's own: MQTT may deliver a request twice")
        _check_reply(request, envelope.client)
    said = {"by": envelope.by, "requester": envelope.requester, "note": envelope.note}
    return Submission(request=request, delivery=delivery, **said)


def wrap(submission: Submission, request_id: str) -> str:
    """A request for the internal queue, with who asked for it, under this id."""
    request = submission.request.model_copy(update={"id": request_id}).encode()
    said = {"request": json.loads(request), "by": submission.by, "requester": submission.requester}
    said |= {"note": submission.note} if submission.note else {}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def open_envelope(body: str) -> Envelope:
    """What a function or the MQTT rule wrapped. Raises Refused for anything else."""
    fields = _mapping(body) or {}
    match fields:
        case {"request": dict(), "by": str(by), "requester": str(requester)}:
            note = fields.get("note")
            note = note if isinstance(note, str) else ""
            return Envelope(payload=json.dumps(fields["request"]).encode(), by=by, requester=requester, note=note)
        case {"body": str(payload), "client_id": str(client)}:
            principal = fields.get("principal")
            named = f"{client} ({principal})" if isinstance(principal, str) and principal != client else client
            return Envelope(payload=_decoded(payload), by="mqtt", requester=named, client=client)
        case _:
            raise Refused("message", describe(fields), "what the MQTT rule or a function puts into the internal queue")


def reply_topic(record: Record) -> tuple[str | None, str | None]:
    """Where the refusal of a request that may itself be malformed is told, and the request's id."""
    if record.queue is QueueName.REQUESTS:
        client, fields = None, _mapping(record.body)
    else:
        try:
            envelope = open_envelope(record.body)
        except Refused:
            return None, None
        client, fields = envelope.client, _mapping(envelope.payload)
    if fields is None:
        return None, None
    topic, request_id = _told(fields.get("reply_to")), _told(fields.get("id"))
    request_id = request_id if request_id and REQUEST_ID.fullmatch(request_id) else None
    if topic is None or (client is not None and topic.split("/")[1:3] != ["replies", client]):
        return None, None
    return topic, request_id


def _check_reply(request: RunRequest, client: str) -> None:
    if request.reply_to is None:
        return
    parts = request.reply_to.split("/")
    if len(parts) < 3 or parts[1] != "replies" or parts[2] != client or any(mark in request.reply_to for mark in "+#"):
        own = client if is_plain(client) else "<client>"
        raise Refused("reply_to", describe(request.reply_to), f"a topic <namespace>/replies/{own}")


def _decoded(payload: str) -> bytes:
    try:
        return base64.b64decode(payload, validate=True)
    except ValueError:
        # Also what binascii calls an error; text that is not ASCII is a plain ValueError.
        raise Refused("body", "bytes that are not base64", "the body as the rule encodes it") from None


def _mapping(payload: str | bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _told(found: object) -> str | None:
    """A text that can be sent; JSON can also bring half surrogates, which cannot."""
    if not isinstance(found, str):
        return None
    try:
        return found if len(found.encode()) <= LONGEST_TOLD else None
    except UnicodeEncodeError:
        return None
