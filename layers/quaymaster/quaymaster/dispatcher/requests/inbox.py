"""The queues' records, handled: run requests, however they came, and wake-ups.

A record is acknowledged after its write: a crash in between repeats it, and the repetition finds its run. What is
malformed is refused once, into the dead-letter queue with its reason, and the rest of the batch goes on.
"""

from collections.abc import Sequence
from datetime import datetime

from quaymaster.dispatcher.lifetime import in_time
from quaymaster.dispatcher.placing.match import match
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.reaper.due import look
from quaymaster.dispatcher.requests.drafts import Submission
from quaymaster.dispatcher.requests.queue_records import Record, read_record, reply_topic
from quaymaster.dispatcher.requests.submit import Submitted, submit
from quaymaster.domain.requests import Reply, ReplyOn, RunRequest
from quaymaster.errors import NotFound, QuaymasterError, Refused
from quaymaster.ports import Ports, QueueName, Wake

SOURCES = {QueueName.REQUESTS: "requests", QueueName.INTERNAL: "internal"}
"""What a dead letter says of the queue that its message was refused from."""


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
    if run and request.reply_to and request.reply_on is not ReplyOn.ENDED:
        answer = Reply(id=request.id, accepted=True, run=run.id, state=run.state)
        return _reply(ports, record, request.reply_to, answer)
    return []


def _refuse(ports: Ports, record: Record, refused: QuaymasterError, request: RunRequest | None = None) -> list[str]:
    """Refuse a record once: into the dead-letter queue with its reason, and to whoever waits for a reply."""
    ports.log("request_refused", {"record": record.id, "note": str(refused)[:200]})
    try:
        ports.queue.refuse(record.body, str(refused), SOURCES[record.queue], record.sender)
    except QuaymasterError as error:
        return [_later(ports, record, error)]
    topic, request_id = (request.reply_to, request.id) if request else reply_topic(record)
    if topic:
        answer = Reply(id=request_id, accepted=False, error=str(refused))
        return _reply(ports, record, topic, answer)
    return []


def _reply(ports: Ports, record: Record, topic: str, answer: Reply) -> list[str]:
    """Answer; a lost answer is no reason to repeat a request that stands in the table."""
    try:
        ports.messenger.reply(topic, answer)
    except QuaymasterError as error:
        ports.log("reply_not_sent", {"record": record.id, "note": str(error)[:120]})
    return []


def _later(ports: Ports, record: Record, error: Exception) -> str:
    ports.log("record_comes_again", {"record": record.id, "note": f"{type(error).__name__}: {error}"[:200]})
    return record.id
