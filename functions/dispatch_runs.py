"""Requests and wake-ups from the two queues become runs on workers."""

from typing import Any

from quaymaster import cold_start
from quaymaster.dispatcher.lifetime import usable
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.requests.inbox import receive_batch
from quaymaster.dispatcher.requests.queue_records import Record
from quaymaster.wiring import logged, ports, queue_of, time_left

PORTS = ports()
POOLS = Pools(PORTS.store, PORTS.clock)


@logged
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """An SQS batch in, the ids of the records that must come again out."""
    records = [_read(record) for record in event["Records"]]
    again = receive_batch(PORTS, POOLS, records, PORTS.clock() + usable(time_left(context)))
    return {"batchItemFailures": [{"itemIdentifier": record_id} for record_id in again]}


def _read(record: dict[str, Any]) -> Record:
    # https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html; the event source and `SenderId` are SQS's own words.
    return Record(
        id=record["messageId"],
        body=record["body"],
        sender=record["attributes"]["SenderId"],
        queue=queue_of(record["eventSourceARN"]),
    )


cold_start.over()
