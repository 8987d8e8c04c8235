"""The store in DynamoDB, through the low-level client."""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from quaymaster.adapters.aws.errors import translated
from quaymaster.adapters.dynamodb.commit import Commit
from quaymaster.adapters.records import listing
from quaymaster.adapters.records.actions import actions
from quaymaster.adapters.records.codec import DUE_PARTITIONS, decode, due_partition, key_item, read_key
from quaymaster.adapters.records.items import Item
from quaymaster.domain import keys
from quaymaster.domain.images import ImageDefinition
from quaymaster.domain.keys import Key
from quaymaster.domain.pool import Counters, Launch, Pool, PoolEntry, PoolName, Starts, Ticket
from quaymaster.domain.run import Run, Spec
from quaymaster.domain.worker import Agent, Marker, Worker
from quaymaster.errors import Unavailable
from quaymaster.ports import Record, RunPage, WorkerPage, Write, pages

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SERVICE = "DynamoDB"
BATCH = 100
TRIES = 10


@dataclass(frozen=True)
class Backoff:
    """Full jitter below a doubling ceiling: 20 ms at first, 640 ms at most, 3.2 s in all, half of that as a rule.

    Enough for some 200 transactions that count on one item at the same moment, each of which takes 10 ms or so.
    """

    random: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep

    def wait(self, tries: int) -> None:
        """Wait after so many tries."""
        self.sleep(self.random() * 0.02 * 2 ** min(tries - 1, 5))


class DynamoStore:
    """Fulfils `ports.Store`; safe to share between threads, as its client is.

    The client's own retries (standard mode) are for answers that are lost or throttled: it repeats a call under the
    same token, and says how often. Conflicts are retried here, because botocore does not, and because only the store
    can tell them from a lost race.
    """

    def __init__(self, client: "DynamoDBClient", table: str, backoff: Backoff | None = None) -> None:
        self._client = client
        self._table = table
        self._backoff = backoff or Backoff()

    def commit(self, *writes: Write) -> None:
        commit = Commit(self._client, self._table, actions(writes))
        for tries in range(1, TRIES):
            if commit.attempt():
                return
            self._backoff.wait(tries)
        if not commit.attempt():
            raise commit.given_up()

    def _read(self, key: Key) -> Record | None:
        with translated(SERVICE):
            found: Any = self._client.get_item(TableName=self._table, Key=key_item(key), ConsistentRead=True)
        return decode(found["Item"]) if "Item" in found else None

    def _get[T: Record](self, kind: type[T], key: Key) -> T | None:
        found = self._read(key)
        return found if isinstance(found, kind) else None

    def _query(self, limit: int | None, **request: Any) -> Iterator[Item]:
        """Items in their order, all of them if there is no limit; DynamoDB takes none above 32 bits."""
        left, start = limit, dict[str, Any]()
        while left is None or left > 0:
            most = {} if left is None else {"Limit": left}
            with translated(SERVICE):
                page: Any = self._client.query(TableName=self._table, **most, **request, **start)
            yield from page["Items"]
            left = None if left is None else left - len(page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _range[T: Record](self, kind: type[T], pk: str, prefix: str, limit: int | None = None) -> list[T]:
        """Records of a partition whose sort keys begin so, in their order."""
        items = self._query(
            limit,
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            ExpressionAttributeValues={":pk": {"S": pk}, ":prefix": {"S": prefix}},
        )
        return [record for record in map(decode, items) if isinstance(record, kind)]

    def pool(self, pool_id: str) -> Pool | None:
        return self._get(Pool, keys.pool(pool_id))

    def pool_named(self, name: str) -> str | None:
        found = self._get(PoolName, keys.pool_name(name))
        return found and found.pool_id

    def pools(self) -> list[PoolEntry]:
        return self._range(PoolEntry, keys.POOLS, "pool#")

    def counters(self, pool_id: str) -> Counters | None:
        return self._get(Counters, keys.counters(pool_id))

    def starts(self, pool_id: str) -> Starts | None:
        return self._get(Starts, keys.starts(pool_id))

    def run(self, run_id: str) -> Run | None:
        return self._get(Run, keys.run(run_id))

    def run_and_spec(self, run_id: str) -> tuple[Run, Spec] | None:
        items = self._query(
            None,
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": keys.run(run_id).pk}},
        )
        found = {type(record): record for record in map(decode, items)}
        run, spec = found.get(Run), found.get(Spec)
        return (run, spec) if isinstance(run, Run) and isinstance(spec, Spec) else None

    def runs(self, run_ids: Iterable[str]) -> dict[str, Run]:
        found = self._batches(keys.run(run_id) for run_id in run_ids)
        return {run.id: run for run in found if isinstance(run, Run)}

    def specs(self, run_ids: Iterable[str]) -> dict[str, Spec]:
        found = self._batches(keys.spec(run_id) for run_id in run_ids)
        return {spec.run_id: spec for spec in found if isinstance(spec, Spec)}

    def _batches(self, wanted: Iterable[Key]) -> Iterator[Record | None]:
        keys_once = [key_item(key) for key in dict.fromkeys(wanted)]
        return (decode(item) for page in pages(keys_once, BATCH) for item in self._batch(page))

    def _batch(self, wanted: Iterable[Item]) -> Iterator[Item]:
        left: Any = {self._table: {"Keys": list(wanted), "ConsistentRead": True}}
        for tries in range(1, TRIES + 1):
            with translated(SERVICE):
                page: Any = self._client.batch_get_item(RequestItems=left)
            yield from page["Responses"].get(self._table, [])
            left = page.get("UnprocessedKeys")
            if not left:
                return
            self._backoff.wait(tries)
        raise Unavailable(SERVICE, f"BatchGetItem left {len(left[self._table]['Keys'])} keys unread")

    def worker(self, pool_id: str, worker_id: str) -> Worker | None:
        now = self._get(Worker, keys.worker(pool_id, worker_id))
        return now or self._get(Worker, keys.past_worker(pool_id, worker_id))

    def workers(self, pool_id: str) -> list[Worker]:
        return self._range(Worker, keys.pool_partition(pool_id), "worker#")

    def workers_of(self, pool_id: str, limit: int, cursor: str | None = None, *, over: bool = False) -> WorkerPage:
        after = listing.read_worker_cursor(cursor) if cursor else ""
        items = self._query(
            limit + 1,
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :after AND :last",
            ExpressionAttributeValues={
                ":pk": {"S": keys.past_partition(pool_id) if over else keys.pool_partition(pool_id)},
                ":after": {"S": listing.behind_worker(after)},
                ":last": {"S": listing.LAST_WORKER},
            },
        )
        found = [record for record in map(decode, items) if isinstance(record, Worker)]
        return listing.page_of_workers(found, limit)

    def agents(self, pool_id: str, worker_ids: Iterable[str]) -> dict[str, Agent]:
        found = self._batches(keys.agent(pool_id, worker_id) for worker_id in worker_ids)
        return {agent.worker_id: agent for agent in found if isinstance(agent, Agent)}

    def agent(self, pool_id: str, worker_id: str) -> Agent | None:
        return self._get(Agent, keys.agent(pool_id, worker_id))

    def idle(self, pool_id: str, limit: int) -> list[Marker]:
        return self._range(Marker, keys.pool_partition(pool_id), "idle#", limit)

    def tickets(self, pool_id: str, limit: int) -> list[Ticket]:
        return self._range(Ticket, keys.pool_partition(pool_id), "ticket#", limit)

    def bound(self, pool_id: str, limit: int) -> list[Ticket]:
        return self._range(Ticket, keys.pool_partition(pool_id), "bound#", limit)

    def image_definition(self, pool_id: str, made_from: str, image: str) -> ImageDefinition | None:
        return self._get(ImageDefinition, keys.image_definition(pool_id, made_from, image))

    def image_definitions(self, pool_id: str) -> list[ImageDefinition]:
        return self._range(ImageDefinition, keys.pool_partition(pool_id), "image#")

    def launch(self, pool_id: str, launch_id: str) -> Launch | None:
        return self._get(Launch, keys.launch(pool_id, launch_id))

    def launches(self, pool_id: str) -> list[Launch]:
        return self._range(Launch, keys.pool_partition(pool_id), "launch#")

    def overdue(self, now: datetime, limit: int) -> list[Key]:
        entries = [entry for number in range(DUE_PARTITIONS) for entry in self._overdue_of(number, now, limit)]
        return [key for _, key in sorted(entries, key=_by_time)[:limit]]

    def _overdue_of(self, number: int, now: datetime, limit: int) -> Iterator[tuple[int, Key]]:
        items = self._query(
            limit,
            IndexName="due",
            KeyConditionExpression="due_pk = :pk AND due_at <= :now",
            ExpressionAttributeValues={
                ":pk": {"S": due_partition(number)},
                ":now": {"N": str(keys.milliseconds(now))},
            },
        )
        return ((int(item["due_at"]["N"]), read_key(item)) for item in items)

    def due(self, key: Key) -> Run | Worker | Launch | None:
        found = self._read(key)
        return found if isinstance(found, Run | Worker | Launch) else None

    def runs_of(self, pool_id: str, limit: int, cursor: str | None = None) -> RunPage:
        before = listing.read_cursor(cursor) if cursor else listing.BEHIND_ALL
        items = self._query(
            limit + 1,
            IndexName="listing",
            ScanIndexForward=False,
            KeyConditionExpression="listing_pk = :pk AND listing_at < :before",
            ExpressionAttributeValues={":pk": {"S": listing.partition(pool_id)}, ":before": {"S": before}},
        )
        entries = [item["listing_at"]["S"] for item in items]
        runs = self.runs(listing.run_of(at) for at in entries[:limit])
        shown = tuple(run for at in entries[:limit] if (run := runs.get(listing.run_of(at))))
        return RunPage(shown, listing.cursor(entries[limit - 1]) if len(entries) > limit else None)


def _by_time(entry: tuple[int, Key]) -> tuple[int, bytes, bytes]:
    at, key = entry
    return at, key.pk.encode(), key.sk.encode()
