"""Records as items of the table, with the attributes that its indexes and its expiry go by.

A time is a number of milliseconds, `expires_at` one of seconds; a record read back is the same to that precision.
"""

import zlib

from quaymaster.adapters.records import listing
from quaymaster.adapters.records.history import has_note, shorten
from quaymaster.adapters.records.items import Item, item_size
from quaymaster.adapters.records.layouts import layout_at, layout_of
from quaymaster.domain.keys import Key
from quaymaster.domain.run import Run
from quaymaster.domain.worker import Worker
from quaymaster.ports import Record

UNIT = 1024
DUE_PARTITIONS = 8


def key_item(key: Key) -> Item:
    """The two attributes of a primary key."""
    return {"pk": {"S": key.pk}, "sk": {"S": key.sk}}


def read_key(item: Item) -> Key:
    """The primary key of an item, or of an entry of an index."""
    return Key(item["pk"]["S"], item["sk"]["S"])


def due_partition(number: int) -> str:
    """One of the partitions of the index `due`."""
    return f"due#{number}"


def encode(record: Record) -> Item:
    """The record's item.

    A run's history gives way where its item would outgrow one unit: notes are cut, the oldest first.
    """
    item = key_item(record.key) | layout_of(record).write(record)
    # A launch is found by the sweep of its pool, which reads them all: an entry would cost four units for each task.
    if isinstance(record, Run | Worker) and record.due_at:
        due = zlib.crc32(f"{record.key.pk}/{record.key.sk}".encode()) % DUE_PARTITIONS
        item["due_pk"] = {"S": due_partition(due)}
    if isinstance(record, Run):
        item["listing_pk"] = {"S": listing.partition(record.pool_id)}
        item["listing_at"] = {"S": listing.position(record)}
        _fit(item)
    return item


def _fit(item: Item) -> None:
    entries = tuple(entry["S"] for entry in item["h"]["L"]) if "h" in item else ()
    # Most runs have nothing that could be cut, and need not be weighed.
    if not any(map(has_note, entries)):
        return
    excess = item_size(item) - UNIT
    if excess > 0:
        item["h"] = {"L": [{"S": entry} for entry in shorten(entries, excess)]}


def decode(item: Item) -> Record | None:
    """The record of an item; None when no record of this version lies at such a key."""
    key = read_key(item)
    layout = layout_at(key)
    return layout.read(key, item) if layout else None


def stored[T: Record](record: T) -> T:
    """The record as it is read back once it was written."""
    found = decode(encode(record))
    if not isinstance(found, type(record)):
        raise TypeError(f"{record.key.pk}/{record.key.sk} is not where a {type(record).__name__} lies")
    return found
