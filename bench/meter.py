"""What DynamoDB would charge real clients, and how many calls these make.

Rules (AWS's pricing pages and developer guide): a write costs one unit per started KB, twice that in a transaction;
a put or a delete in an index costs one each, a changed index key two, anything else in it nothing. A read costs one
unit per started 4 KB if it is consistent, half of that if not: of each item, or of all that a query passes over.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from quaymaster.adapters.records.items import Item, item_size, write_units

INDEXES = (("due_pk", "due_at"), ("listing_pk", "listing_at"))


class Meter:
    """Listens to botocore clients; knows the items that were written, so that it sees what an index write is."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._units: Counter[str] = Counter()
        self.read_units = 0.0
        self._items: dict[tuple[str, str], Item] = {}
        self._waiting: list[tuple[str, Any]] = []

    def listen(self, client: Any) -> None:
        """Count this client's calls from now on."""
        client.meta.events.register_first("before-parameter-build", self._before)
        client.meta.events.register("before-call", self._count)
        client.meta.events.register("after-call", self._after)

    @property
    def units(self) -> int:
        """All write units."""
        return self._units.total()

    def units_of(self, partition: str) -> int:
        """The write units of the items under one partition key."""
        return self._units[partition]

    def reset(self) -> None:
        """Forget what was counted; remember the items."""
        self.calls.clear()
        self._units.clear()
        self.read_units = 0.0

    @contextmanager
    def unseen(self) -> Generator[None]:
        """What is called inside is the benchmark's own."""
        calls = self.calls.copy()
        yield
        self.calls = calls

    def _count(self, model: Any, **_: Any) -> None:
        self.calls[model.name] += 1

    def _before(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self._waiting.append((model.name, params))

    def _after(self, http_response: Any, model: Any, parsed: Any, **_: Any) -> None:
        name, params = self._waiting.pop()
        if http_response.status_code != 200:
            return
        if name == "Query":
            # No query of ours filters: what it passes over is what it returns.
            self._read(sum(map(item_size, parsed["Items"])), consistent=params.get("ConsistentRead", False))
        elif name == "GetItem":
            self._read(item_size(parsed.get("Item", {})), consistent=params.get("ConsistentRead", False))
        elif name == "BatchGetItem":
            for items in parsed["Responses"].values():
                for item in items:
                    self._read(item_size(item), consistent=True)
        elif name == "TransactWriteItems":
            for action in params["TransactItems"]:
                ((kind, body),) = action.items()
                self._charge(kind, body, 2)
        elif name in ("PutItem", "DeleteItem", "UpdateItem"):
            self._charge(name.removesuffix("Item"), params, 1)

    def _read(self, size: int, *, consistent: bool) -> None:
        self.read_units += max(1, -(-size // 4096)) * (1 if consistent else 0.5)

    def _charge(self, kind: str, body: dict[str, Any], factor: int) -> None:
        if kind == "ConditionCheck":
            self._units[body["Key"]["pk"]["S"]] += 2
            return
        key = body["Item"] if kind == "Put" else body["Key"]
        at = (key["pk"]["S"], key["sk"]["S"])
        before = self._items.get(at, {})
        after: Item = {}
        if kind == "Put":
            after = body["Item"]
        elif kind == "Update":
            # A count: the item stays as large as it was, and is in no index.
            after = before or key
        self._units[at[0]] += factor * max(write_units(before) if before else 1, write_units(after) if after else 1)
        for index in INDEXES:
            self._units[at[0]] += _index_units([before.get(a) for a in index], [after.get(a) for a in index])
        if after:
            self._items[at] = after
        else:
            self._items.pop(at, None)


def _index_units(before: list[Any], after: list[Any]) -> int:
    if before == after:
        return 0
    return sum(1 for keys in (before, after) if all(key is not None for key in keys))
