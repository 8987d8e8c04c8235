"""Requests and wake-ups from the request queue become runs on workers."""

from typing import Any

from longshore.dispatcher.inbox import Record, receive_batch
from longshore.dispatcher.lifetime import usable
from longshore.dispatcher.pool_cache import Pools
from longshore.wiring import logged, ports, time_left

PORTS = ports()
POOLS = Pools(PORTS.store, PORTS.clock)


@logged
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """An SQS batch in, the ids of the records that must come again out."""
    records = [Record(id=record["messageId"], body=record["body"]) for record in event["Records"]]
    again = receive_batch(PORTS, POOLS, records, PORTS.clock() + usable(time_left(context)))
    return {"batchItemFailures": [{"itemIdentifier": record_id} for record_id in again]}
