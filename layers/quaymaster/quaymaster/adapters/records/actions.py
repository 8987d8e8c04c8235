"""The actions of one commit, by key, checked against the limits of the table's transactions."""

from collections.abc import Iterable

from quaymaster.domain.keys import Key
from quaymaster.ports import Write, key_of

MAX_TRANSACTION = 100


def actions(writes: Iterable[Write]) -> dict[Key, Write]:
    """The writes by the key that each is about, in their order.

    Raises ValueError, as the table would refuse them, for no write at all, more than 100, or two of one key: those are
    mistakes of the caller, and repeating them will not help.
    """
    by_key: dict[Key, Write] = {}
    for write in writes:
        key = key_of(write)
        if key in by_key:
            raise ValueError(f"two writes of {key.pk}/{key.sk} in one commit")
        by_key[key] = write
    if not 0 < len(by_key) <= MAX_TRANSACTION:
        raise ValueError(f"a commit of {len(by_key)} writes; allowed: 1 to {MAX_TRANSACTION}")
    return by_key
