"""Pools as the use cases look them up: by name or id, remembered for a few seconds."""

from collections.abc import Callable
from datetime import datetime, timedelta

from quaymaster.domain.ids import ULID
from quaymaster.domain.pool import Pool
from quaymaster.errors import Refused
from quaymaster.ports import Clock, Store
from quaymaster.telling import describe_name

TTL = timedelta(seconds=5)
"""Settings may be this old. What must be exact (limits, generations) is a condition of the write that relies on it."""


class Pools:
    """A cache of pools; one for each process of a function."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[datetime, Pool]] = {}

    def get(self, pool_id: str) -> Pool | None:
        """The pool of this id, if there is one."""
        return self._remember(pool_id, lambda: self._store.pool(pool_id))

    def find(self, name_or_id: str) -> Pool:
        """The pool of this name or id. Raises Refused when there is none."""
        pool = self._remember(name_or_id, lambda: self._look_up(name_or_id))
        if not pool:
            raise Refused(
                "pool", describe_name(name_or_id), "the name or the id of a pool; `quaymaster pool list` shows them"
            )
        return pool

    def _look_up(self, name_or_id: str) -> Pool | None:
        if ULID.fullmatch(name_or_id) and (pool := self._store.pool(name_or_id)):
            return pool
        pool_id = self._store.pool_named(name_or_id)
        return self._store.pool(pool_id) if pool_id else None

    def _remember(self, key: str, read: Callable[[], Pool | None]) -> Pool | None:
        now = self._clock()
        known = self._known.get(key)
        if known and now - known[0] < TTL:
            return known[1]
        pool = read()
        if pool:
            self._known[key] = (now, pool)
        else:
            self._known.pop(key, None)
        return pool
