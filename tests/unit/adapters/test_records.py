"""Records as items of the table: the way there and back, and what they weigh."""

from dataclasses import replace
from datetime import timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quaymaster.adapters.records.codec import DUE_PARTITIONS, decode, encode, stored
from quaymaster.adapters.records.history import pack_entry, shorten, unpack_entry
from quaymaster.adapters.records.items import Item, item_size, write_units
from quaymaster.adapters.records.layouts import LAYOUTS
from quaymaster.domain import keys
from quaymaster.domain.cost import Month
from quaymaster.domain.images import ImageDefinition
from quaymaster.domain.phases import Phase
from quaymaster.domain.pool import Counters, PoolEntry, PoolName, PoolSettings, Starts, Ticket, ticket_for
from quaymaster.domain.run import LeftWorkspace, Run, read_history
from quaymaster.domain.spot import Drought
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.trouble import StartFailure, TroubleKind
from quaymaster.domain.worker import Agent, Marker, gone, questioned
from quaymaster.ports import Record

from tests.shared.memory.records import (
    NOW,
    POOL,
    a_launch,
    a_pool,
    a_run,
    a_spec,
    a_worker,
    a_workspace,
    an_idle,
    phased,
    the_largest_ended_run,
    the_largest_run,
    the_largest_worker,
)

DROUGHT = Drought(note="dry", times=2, since=NOW, last_at=NOW, retry_at=NOW)
WORKER, MARKER = an_idle("one", "r4nd0m", log_limit=timedelta(minutes=3))
IMAGE = ImageDefinition(
    pool_id=POOL, image="registry.example/red:1", made_from="family:1", task_definition="family:2", used_at=NOW
)
RECORDS: list[Record] = [
    a_run(),
    a_run(stack="network", due_at=NOW, expires_at=NOW.replace(microsecond=0)),
    a_spec(a_run()),
    a_spec(
        a_run(),
        environment={"A": "", "B": "2"},
        image="busybox",
        workspace=a_workspace(),
        log_timeout=timedelta(minutes=7),
        expires_at=NOW.replace(microsecond=0),
    ),
    a_spec(
        a_run(),
        command=(),
        phases=(
            Phase(
                name="plan", command=("plan",), before=(("init",),), run_timeout=timedelta(minutes=1), retryable=True
            ),
            Phase(name="apply", command=("apply",), environment={"A": "1"}, needs_confirmation=True),
        ),
        on_end=(("notify", "all"), ("tidy",)),
        auto_confirm=True,
        metadata={"TICKET": "1"},
    ),
    WORKER,
    MARKER,
    the_largest_worker(),
    Agent(pool_id=POOL, worker_id=WORKER.id, agent_version="0.1.0", metadata={"host": "a"}),
    Agent(pool_id=POOL, worker_id=WORKER.id),
    a_pool(),
    a_pool(settings=PoolSettings(images=("registry.example/*", "b"))),
    a_pool(settings=PoolSettings(log_timeout=timedelta(seconds=5), max_workers=3), certificate_expires_at=NOW),
    PoolEntry(pool_id=POOL, name="team-a"),
    PoolName(name="team #a", pool_id=POOL),
    Counters(pool_id=POOL, workers_reserved=3, reservations=2, version=7),
    Counters(pool_id=POOL, months={"2026-03": Month(tasks=2, runs=1, seconds=90), "2027-12": Month(spot_seconds=1)}),
    Starts(pool_id=POOL),
    Starts(pool_id=POOL, drought=DROUGHT, version=2).troubled(
        StartFailure(kind=TroubleKind.PASSING, reason=Reason.START_FAILED, note="a note"), NOW, b"ab"
    ),
    gone(WORKER, "said goodbye", NOW.replace(microsecond=0)),
    gone(WORKER, "did not answer", NOW.replace(microsecond=0), sought_until=NOW),
    questioned(WORKER, NOW, NOW),
    ticket_for(a_run()),
    ticket_for(a_run(bound=True)),
    IMAGE,
    IMAGE.troubled(StartFailure(kind=TroubleKind.PASSING, reason=Reason.IMAGE_PULL, note="a note"), NOW, b"ab"),
    a_launch(),
    a_launch(run=a_run().id, count=1),
    a_launch(tasks=("arn:1", "arn:2"), joined=("1",), answered=True, due_at=NOW, note="throttled"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_a_record_comes_back_as_it_was_written(record: Record):
    assert stored(record) == record


def test_every_kind_of_record_has_a_layout_and_is_tried_here():
    kinds = set(get_args(Record.__value__))
    assert {layout.kind for layout in LAYOUTS} == kinds
    assert {type(record) for record in RECORDS} == kinds


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_an_item_with_attributes_and_fields_of_a_newer_version_is_read(record: Record):
    item: Item = encode(record) | {"from_the_future": {"S": "x"}}
    for attribute in item.values():
        if "M" in attribute:
            attribute["M"]["from_the_future"] = {"S": "x"}
    assert decode(item) is not None


def test_an_item_of_a_kind_that_a_newer_version_brings_is_nothing():
    assert decode({"pk": {"S": f"pool#{POOL}"}, "sk": {"S": "poolish"}}) is None
    assert decode({"pk": {"S": "stack#S"}, "sk": {"S": "stack"}}) is None


def test_defaults_and_nothings_take_no_room_but_the_version_always_lies_there():
    item = encode(a_worker())
    assert set(item) == {"pk", "sk", "version", "st", "ss", "cr", "se"}
    assert item["version"] == {"N": "1"}


def test_times_are_kept_to_the_millisecond_and_expiry_to_the_second_never_early():
    run = stored(a_run(due_at=NOW + timedelta(microseconds=400), expires_at=NOW))
    assert run.due_at == NOW
    assert run.expires_at == NOW.replace(microsecond=0) + timedelta(seconds=1)
    assert encode(run)["expires_at"] == {"N": str(keys.milliseconds(NOW) // 1000 + 1)}


def test_a_due_time_puts_a_record_into_the_due_index_and_its_absence_takes_it_out():
    for record in (a_run(due_at=NOW), a_worker(due_at=NOW)):
        item = encode(record)
        assert item["due_at"] == {"N": str(keys.milliseconds(NOW))}
        assert item["due_pk"]["S"] in {f"due#{number}" for number in range(DUE_PARTITIONS)}
        assert {"due_at", "due_pk"}.isdisjoint(encode(replace(record, due_at=None)))


def test_due_items_spread_over_all_partitions_and_stay_in_theirs():
    runs = [a_run(f"run-{number}", due_at=NOW) for number in range(200)]
    found = [encode(run)["due_pk"]["S"] for run in runs]
    assert len(set(found)) == DUE_PARTITIONS
    assert found == [encode(replace(run, version=9, due_at=NOW + timedelta(hours=1)))["due_pk"]["S"] for run in runs]


def test_a_marker_carries_its_worker_but_not_into_the_due_index():
    _, marker = an_idle("one", "r4nd0m")
    due = Marker(random="r4nd0m", worker=replace(marker.worker, due_at=NOW))
    assert "due_at" not in encode(due)
    assert stored(due) == due


def test_only_runs_are_listed_and_their_listing_never_changes():
    run = a_run()
    item = encode(run)
    assert item["listing_pk"] == {"S": f"runs#{POOL}"}
    assert item["listing_at"] == {"S": f"{keys.milliseconds(NOW):013}#{run.id}"}
    moved = encode(the_largest_run())
    assert moved["listing_pk"] == item["listing_pk"]
    assert not any("listing_pk" in encode(record) for record in RECORDS if not isinstance(record, Run))


@pytest.mark.parametrize("run", [the_largest_run(), the_largest_ended_run()], ids=["held", "ended"])
def test_the_largest_run_costs_one_unit_and_loses_nothing_but_notes_of_its_history(run: Run):
    item = encode(run)
    assert item_size(item) <= 1024
    found = stored(run)
    assert replace(found, history=()) == replace(run, history=())
    for kept, change in zip(read_history(found), read_history(run), strict=True):
        assert replace(kept, note="") == replace(change, note="")
        assert change.note.startswith(kept.note)


@pytest.mark.parametrize("run", [the_largest_run(), the_largest_ended_run()], ids=["held", "ended"])
def test_one_of_as_many_phases_as_there_can_be_costs_two_at_most(run: Run):
    found = stored(phased(run))
    assert write_units(encode(phased(run))) == 2
    assert replace(found, history=()) == replace(phased(run), history=())


def test_an_ordinary_run_of_phases_costs_one():
    done = ("1,1000,420000",) * 2
    left = LeftWorkspace(attempt=1, sha256="e" * 64, bytes=1 << 20)
    entry = f"{RunState.READY}|2|{keys.milliseconds(NOW)}|dispatcher|confirm: looks good"
    history = tuple(entry for _ in range(6))
    run = a_run(phase=2, leg=2, leg_end=3, phases=3, phases_done=done, left=left, confirmed_at=NOW, history=history)
    assert stored(run) == run
    assert write_units(encode(run)) == 1


def test_what_was_shortened_once_is_not_shortened_again_so_that_it_equals_itself():
    once = stored(the_largest_run())
    assert encode(once) == encode(the_largest_run())
    assert stored(once) == once


def test_an_ordinary_run_keeps_its_history_whole():
    entry = f"{RunState.READY}|2|{keys.milliseconds(NOW)}|dispatcher|its worker did not answer"
    run = a_run(history=tuple(entry for _ in range(8)))
    assert stored(run) == run
    assert write_units(encode(run)) == 1


def test_the_largest_worker_and_its_marker_cost_one_unit_each():
    worker = the_largest_worker()
    assert write_units(encode(worker)) == 1
    assert write_units(encode(Marker(random=worker.marker or "", worker=worker))) == 1


def test_an_attempts_chunk_is_kept_without_its_prefix_and_another_keys_whole():
    run = replace(the_largest_run(), history=())
    assert encode(run)["ch"] == {"S": "/perform-99999999.ndjson.gz"}
    strange = replace(run, chunk="chunks/elsewhere")
    assert stored(strange) == strange


def test_weights_follow_the_published_rules():
    assert item_size({"pk": {"S": "é"}}) == 4
    assert item_size({"n": {"N": "1700000000000"}}) == 1 + 2
    assert item_size({"n": {"N": "1772366400123"}}) == 1 + 8
    assert item_size({"n": {"N": "-15"}}) == 1 + 3
    assert item_size({"l": {"L": [{"S": "ab"}, {"S": "c"}]}}) == 1 + 3 + 2 + 3
    assert item_size({"m": {"M": {"k": {"BOOL": True}}}}) == 1 + 3 + 1 + 1 + 1


NOTES = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
ACTORS = st.sampled_from(["dispatcher", "worker", "reaper", "ecs", "arn:aws:iam::123456789012:user/d", "=d", "d"])


@given(
    state=st.sampled_from(RunState),
    version=st.integers(1, 10**9),
    at=st.integers(-(10**6), 10**14),
    by=ACTORS,
    note=NOTES,
)
def test_a_history_entry_comes_back_from_its_packed_form(state: RunState, version: int, at: int, by: str, note: str):
    entry = f"{state}|{version}|{at}|{by}|{note}"
    assert unpack_entry(pack_entry(entry, NOW), NOW) == entry


@given(notes=st.lists(NOTES, min_size=1, max_size=12), excess=st.integers(0, 2000))
def test_shortening_takes_what_it_must_from_the_oldest_notes(notes: list[str], excess: int):
    history = tuple(f"R1|0|d|{note}" for note in notes)
    short = shorten(history, excess)
    before, after = (sum(len(entry.encode()) for entry in entries) for entries in (history, short))
    spare = before - sum(len(entry.encode()) for entry in shorten(history, 1 << 30))
    assert min(excess, spare) <= before - after < min(excess, spare) + 4
    untouched = [entry for entry in short if entry in history]
    assert list(short[len(short) - len(untouched) :]) == untouched or "" in notes


@given(rank=st.integers(1, 4), milliseconds=st.integers(0, 10**13 - 1))
def test_a_ticket_is_its_key(rank: int, milliseconds: int):
    at = NOW.fromtimestamp(0, NOW.tzinfo) + timedelta(milliseconds=milliseconds)
    ticket = Ticket(pool_id=POOL, rank=rank, accepted_at=at, run_id=a_run().id)
    assert set(encode(ticket)) == {"pk", "sk", "version"}
    assert stored(ticket) == ticket
