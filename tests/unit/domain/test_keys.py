"""The order of sort keys is part of the design: these tests hold it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from quaymaster.domain import keys

from tests.shared.memory.records import NOW, POOL, a_launch, a_pool, a_run, a_worker, an_idle

TIMES = st.datetimes(datetime(2001, 9, 10), datetime(2286, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


def test_a_pools_settings_sort_directly_before_its_tickets():
    _, marker = an_idle()
    ordered = [
        marker.key,
        a_launch().key,
        a_pool().key,
        keys.ticket(POOL, 1, NOW, a_run().id),
        a_worker().key,
    ]
    assert [key.sk for key in ordered] == sorted(key.sk for key in ordered)
    assert {key.pk for key in ordered} == {keys.pool_partition(POOL)}


@given(rank=st.integers(1, 4), other=st.integers(1, 4), at=TIMES, later=TIMES)
def test_tickets_sort_by_class_then_by_acceptance(rank: int, other: int, at: datetime, later: datetime):
    one, two = keys.ticket(POOL, rank, at, "r"), keys.ticket(POOL, other, later, "r")
    wanted = (rank, keys.milliseconds(at)) < (other, keys.milliseconds(later))
    assert (one.sk < two.sk) == wanted


def test_a_run_and_its_spec_lie_in_one_partition_of_their_own():
    assert keys.run("R").pk == keys.spec("R").pk == "run#R"


@given(TIMES)
def test_times_are_written_to_the_nearest_millisecond(at: datetime):
    written = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=keys.milliseconds(at))
    assert abs(written - at) <= timedelta(microseconds=501)


def test_no_two_kinds_of_record_share_a_key():
    _, marker = an_idle()
    found = [
        marker.key,
        a_worker().key,
        a_pool().key,
        a_launch().key,
        keys.agent(POOL, a_worker().id),
        keys.counters(POOL),
        keys.pool_entry(POOL),
        keys.pool_name(POOL),
        keys.run(POOL),
        keys.spec(POOL),
        keys.ticket(POOL, 2, NOW, "r"),
    ]
    assert len(set(found)) == len(found)
