"""What the store in memory shows when it is asked to be weak."""

from dataclasses import dataclass
from datetime import timedelta
from random import Random

import pytest
from quaymaster.adapters.memory.store import MemoryStore
from quaymaster.adapters.memory.weakness import SeededWeakness, Trouble
from quaymaster.domain.run import touched
from quaymaster.errors import Busy, Lost, Unavailable
from quaymaster.ports import Create, Delete, Replace

from tests.shared.memory.records import NOW, POOL, a_run


@dataclass
class Ordered:
    """Weak exactly as told."""

    next_trouble: Trouble | None = None
    behind: int = 0

    def trouble(self) -> Trouble | None:
        found, self.next_trouble = self.next_trouble, None
        return found

    def lag(self) -> int:
        return self.behind


@pytest.mark.parametrize(
    ("trouble", "error", "made"),
    [
        (Trouble.BUSY, Busy, False),
        (Trouble.FAILED, Unavailable, False),
        (Trouble.UNANSWERED, Unavailable, True),
    ],
)
def test_trouble_raises_its_error_and_only_the_unanswered_commit_is_made(
    trouble: Trouble, error: type[Exception], made: bool
):
    store = MemoryStore(Ordered(trouble))
    with pytest.raises(error):
        store.commit(Create(a_run()))
    assert store.run(a_run().id) == (a_run() if made else None)


def test_a_lost_race_is_lost_whatever_the_weakness():
    store = MemoryStore()
    store.commit(Create(a_run()))
    store.weakness = Ordered(Trouble.UNANSWERED)
    with pytest.raises(Lost):
        store.commit(Create(a_run()))


def test_indexes_lag_behind_by_commits_and_reads_by_key_do_not():
    weakness = Ordered()
    store = MemoryStore(weakness)
    first, second = a_run("first", due_at=NOW), a_run("second", due_at=NOW)
    store.commit(Create(first))
    store.commit(Create(second))
    store.commit(Replace(touched(first, due_at=None)))
    assert store.overdue(NOW, 9) == [second.key]
    weakness.behind = 1
    assert set(store.overdue(NOW, 9)) == {first.key, second.key}
    weakness.behind = 2
    assert store.overdue(NOW, 9) == [first.key]
    assert store.runs_of(POOL, 9).runs == (touched(first, due_at=None),)
    weakness.behind = 99
    assert store.overdue(NOW, 9) == []
    assert store.run(second.id) == second


def test_a_run_that_is_gone_is_not_listed_by_a_stale_index():
    store = MemoryStore(weakness := Ordered())
    store.commit(Create(a_run()))
    store.commit(Delete(a_run()))
    weakness.behind = 1
    assert store.runs_of(POOL, 9).runs == ()


def test_seeded_trouble_comes_as_often_as_told_and_the_same_way_again():
    def drawn(seed: int) -> list[Trouble | None]:
        weakness = SeededWeakness(random=Random(seed), busy=0.1, failed=0.1, unanswered=0.2, max_lag=3)
        assert {weakness.lag() for _ in range(200)} == {0, 1, 2, 3}
        return [weakness.trouble() for _ in range(2000)]

    found = drawn(1)
    assert found == drawn(1) != drawn(2)
    assert 340 < found.count(Trouble.UNANSWERED) < 460
    assert 150 < found.count(Trouble.BUSY) < 250
    assert 150 < found.count(Trouble.FAILED) < 250


def test_records_are_kept_to_the_precision_of_the_table():
    store = MemoryStore()
    store.commit(Create(a_run(due_at=NOW + timedelta(microseconds=300))))
    found = store.run(a_run().id)
    assert found
    assert found.due_at == NOW
    assert store.records() == [found]
