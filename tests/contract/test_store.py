"""What every store promises: in memory, in moto, and in the local cloud's DynamoDB."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws
from quaymaster.adapters.dynamodb.store import DynamoStore
from quaymaster.adapters.memory.store import MemoryStore
from quaymaster.domain import keys
from quaymaster.domain.cost import Month, Spent
from quaymaster.domain.ids import ulid
from quaymaster.domain.images import ImageDefinition
from quaymaster.domain.keys import Key
from quaymaster.domain.pool import Counters, PoolEntry, PoolName, Starts, Ticket, ticket_for
from quaymaster.domain.run import Run, Timeouts, claimed, touched
from quaymaster.domain.spot import Drought
from quaymaster.domain.worker import Agent, Marker, Worker, freed, gone, occupied
from quaymaster.errors import Busy, Lost, Refused
from quaymaster.ports import (
    MAX_CLAIMS,
    Count,
    Create,
    Delete,
    Replace,
    Require,
    Store,
    WorkerPage,
    Write,
    rewritten,
)

from tests.shared.deployed.tables import SHAPE, own_table, shape_of
from tests.shared.memory.records import NOW, OTHER_POOL, POOL, a_launch, a_pool, a_run, a_spec, a_worker, an_idle

SECOND = timedelta(seconds=1)
DROUGHT = Drought(note="dry", times=2, since=NOW, last_at=NOW, retry_at=NOW)
LATER = (NOW + timedelta(hours=1)).replace(microsecond=0)
"""To the second, as the table keeps what expires."""
TIMEOUTS = Timeouts(log=timedelta(minutes=7), run=timedelta(minutes=70))


def in_memory(_request: pytest.FixtureRequest) -> Iterator[Store]:
    yield MemoryStore()


def in_moto(request: pytest.FixtureRequest) -> Iterator[Store]:
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        session: Any = boto3.Session(region_name="us-east-1")
        client = session.client("dynamodb")
        with own_table(client, "quaymaster") as table:
            yield DynamoStore(client, table)


def in_local_cloud(request: pytest.FixtureRequest) -> Iterator[Store]:
    client = request.getfixturevalue("cloud").client("dynamodb")
    with own_table(client, f"contract-{threading.get_ident()}") as table:
        yield DynamoStore(client, table)


type Opened = Callable[[pytest.FixtureRequest], Iterator[Store]]
LOCAL = pytest.param(in_local_cloud, id="local", marks=pytest.mark.local)


@pytest.fixture(params=[pytest.param(in_memory, id="memory"), pytest.param(in_moto, id="moto"), LOCAL])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    opened: Opened = request.param
    yield from opened(request)


@pytest.fixture(params=[pytest.param(in_memory, id="memory"), LOCAL])
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store that threads may share: moto's tables are not safe to."""
    opened: Opened = request.param
    yield from opened(request)


def lost_keys(store: Store, *writes: Write) -> set[Key]:
    with pytest.raises(Lost) as caught:
        store.commit(*writes)
    return set(caught.value.keys)


def test_what_was_created_is_read_back(store: Store):
    run = a_run()
    store.commit(Create(run))
    assert store.run(run.id) == run
    assert store.run("nobody") is None


def test_a_second_creation_loses_and_changes_nothing(store: Store):
    run = a_run()
    store.commit(Create(run))
    assert lost_keys(store, Create(a_run(stack="other"))) == {run.key}
    assert store.run(run.id) == run


def test_an_identical_second_creation_loses_too(store: Store):
    # Two functions may come to the same record; only one of them made it.
    store.commit(Create(a_run()))
    assert lost_keys(store, Create(a_run())) == {a_run().key}


def test_a_replacement_needs_the_version_before_it(store: Store):
    run = a_run()
    assert lost_keys(store, Replace(touched(run))) == {run.key}
    store.commit(Create(run))
    store.commit(Replace(touched(run, resent_at=NOW)))
    assert lost_keys(store, Replace(touched(run, resent_at=NOW))) == {run.key}
    assert store.run(run.id) == touched(run, resent_at=NOW)


def test_a_deletion_needs_its_version(store: Store):
    counters = Counters(pool_id=POOL)
    assert lost_keys(store, Delete(counters)) == {counters.key}
    store.commit(Create(counters))
    assert lost_keys(store, Delete(counters.counted(1))) == {counters.key}
    store.commit(Delete(counters))
    assert store.counters(POOL) is None


def test_a_requirement_writes_nothing_and_stops_the_rest_when_it_does_not_hold(store: Store):
    pool, run = a_pool(), a_run()
    store.commit(Create(pool))
    store.commit(Require(pool))
    store.commit(Require(pool), Create(run))
    other = a_run("other")
    assert lost_keys(store, Require(replace(pool, version=2)), Create(other)) == {pool.key}
    assert store.run(other.id) is None
    assert store.pool(POOL) == pool


def test_all_writes_are_made_or_none_and_the_losers_are_named(store: Store):
    run, other = a_run(), a_run("other")
    worker, marker = an_idle()
    store.commit(Create(worker), Create(run))
    found = lost_keys(
        store,
        Create(other),
        Create(run),
        Delete(marker),
        Replace(occupied(worker, run.id, 1, NOW)),
    )
    assert found == {run.key, marker.key}
    assert store.run(other.id) is None
    assert store.worker(POOL, worker.id) == worker


def test_a_claim_is_one_commit(store: Store):
    run, (worker, marker) = a_run(), an_idle()
    ticket = ticket_for(run)
    store.commit(Create(run), Create(a_spec(run)), Create(ticket), Create(worker), Create(marker))
    taken = claimed(run, worker.id, worker.session, NOW, TIMEOUTS, NOW + SECOND)
    claim = Replace(taken), Replace(occupied(worker, run.id, 1, NOW)), Delete(ticket), Delete(marker)
    store.commit(*claim)
    assert store.run(run.id) == taken
    assert store.worker(POOL, worker.id) == occupied(worker, run.id, 1, NOW)
    assert (store.idle(POOL, 10), store.tickets(POOL, 10)) == ([], [])
    assert lost_keys(store, *claim) == {write.record.key for write in claim}


def test_as_many_claims_as_are_allowed_fit_into_one_commit(store: Store):
    runs = [a_run(f"run-{number}") for number in range(MAX_CLAIMS)]
    idle = [an_idle(f"w-{number}", f"{number:04}") for number in range(MAX_CLAIMS)]
    for run, (worker, marker) in zip(runs, idle, strict=True):
        store.commit(Create(run), Create(ticket_for(run)), Create(worker), Create(marker))
    store.commit(
        *(
            write
            for run, (worker, marker) in zip(runs, idle, strict=True)
            for write in (
                Replace(claimed(run, worker.id, worker.session, NOW, TIMEOUTS, NOW)),
                Replace(occupied(worker, run.id, 1, NOW)),
                Delete(ticket_for(run)),
                Delete(marker),
            )
        )
    )
    assert {run.attempt for run in store.runs(run.id for run in runs).values()} == {1}
    assert store.idle(POOL, 100) == []


def test_too_many_writes_none_or_two_of_one_key_are_mistakes(store: Store):
    runs = [a_run(f"run-{number}") for number in range(101)]
    with pytest.raises(ValueError, match="101 writes"):
        store.commit(*(Create(run) for run in runs))
    with pytest.raises(ValueError, match="two writes"):
        store.commit(Create(runs[0]), Require(runs[0]))
    with pytest.raises(ValueError, match="0 writes"):
        store.commit()
    assert store.runs(run.id for run in runs) == {}
    store.commit(*(Create(run) for run in runs[:100]))
    assert len(store.runs(run.id for run in runs)) == 100


def test_a_pool_is_found_by_id_by_name_and_in_the_directory(store: Store):
    pool = a_pool()
    entries = [PoolEntry(pool_id=pool_id, name="x") for pool_id in sorted((OTHER_POOL, POOL))]
    store.commit(Create(pool), Create(PoolName(name=pool.name, pool_id=pool.id)), *map(Create, entries))
    assert store.pool(pool.id) == pool
    assert store.pool_named(pool.name) == pool.id
    assert store.pool_named("nobody") is None
    assert store.pools() == entries


def test_a_run_and_its_spec_are_read_together_or_not_at_all(store: Store):
    run = a_run()
    spec = a_spec(run, environment={"A": "1"}, command=("echo", ""))
    assert store.run_and_spec(run.id) is None
    store.commit(Create(run))
    assert store.run_and_spec(run.id) is None
    store.commit(Create(spec))
    assert store.run_and_spec(run.id) == (run, spec)


def test_many_runs_are_read_at_once_those_that_exist(store: Store):
    runs = [a_run(f"run-{number}") for number in range(150)]
    for start in (0, 75):
        store.commit(*map(Create, runs[start : start + 75]))
    wanted = [run.id for run in runs] + [runs[0].id, "nobody"]
    assert store.runs(wanted) == {run.id: run for run in runs}
    assert store.runs([]) == {}


def test_idle_workers_come_in_the_order_of_their_random_keys(store: Store):
    idle = [an_idle(f"w-{number}", random) for number, random in enumerate(("m", "b", "z", "0"))]
    store.commit(*(Create(record) for pair in idle for record in pair))
    store.commit(Create(an_idle("elsewhere", "a", pool_id=OTHER_POOL)[1]))
    assert [marker.random for marker in store.idle(POOL, 10)] == ["0", "b", "m", "z"]
    assert [marker.random for marker in store.idle(POOL, 2)] == ["0", "b"]
    assert store.idle(POOL, 1)[0] == idle[3][1]


def test_tickets_come_best_class_first_and_oldest_first_within_it(store: Store):
    wanted = [(1, 9), (2, 1), (2, 5), (2, 70), (4, 0)]
    tickets = [
        Ticket(pool_id=POOL, rank=rank, accepted_at=NOW + at * SECOND, run_id=a_run(str(at)).id) for rank, at in wanted
    ]
    store.commit(*map(Create, reversed(tickets)))
    assert store.tickets(POOL, 10) == tickets
    assert store.tickets(POOL, 2) == tickets[:2]
    assert store.tickets(OTHER_POOL, 2) == []


def test_workers_agents_and_launches_of_a_pool_are_kept_apart(store: Store):
    worker, launch = a_worker(), a_launch()
    agent = Agent(pool_id=POOL, worker_id=worker.id, metadata={"host": "a"})
    counters, starts = Counters(pool_id=POOL, workers_reserved=2), Starts(pool_id=POOL, drought=DROUGHT)
    elsewhere = a_worker(pool_id=OTHER_POOL)
    store.commit(*map(Create, (worker, launch, agent, counters, starts, elsewhere, a_pool())))
    assert (store.workers(POOL), store.workers(OTHER_POOL)) == ([worker], [elsewhere])
    assert store.agents(POOL, [worker.id, "w", worker.id]) == {worker.id: agent}
    assert store.agent(POOL, worker.id) == agent
    assert (store.launches(POOL), store.launch(POOL, launch.id)) == ([launch], launch)
    assert (store.counters(POOL), store.starts(POOL)) == (counters, starts)
    assert (store.worker(POOL, "w"), store.agent(POOL, "w"), store.launch(POOL, "l")) == (None, None, None)


def test_a_range_larger_than_one_page_of_the_table_is_read_whole(store: Store):
    # The table ends a page after 1 MB.
    launches = [a_launch(f"l-{number}", note="x" * 100_000) for number in range(12)]
    for launch in launches:
        store.commit(Create(launch))
    assert store.launches(POOL) == sorted(launches, key=lambda launch: launch.id)


def test_what_is_over_leaves_the_ranges_that_are_read_all_the_time(store: Store):
    worker, launch = a_worker(), a_launch(tasks=("arn/1",), joined=("1",), answered=True, count=1)
    store.commit(Create(worker), Create(launch))
    left = gone(worker, "said goodbye", LATER)
    over = replace(launch, version=launch.version + 1, stopped=("1",))
    store.commit(*rewritten(worker, left), *rewritten(launch, over))
    assert (store.workers(POOL), store.launches(POOL)) == ([], [])
    assert (store.worker(POOL, worker.id), store.launch(POOL, launch.id)) == (left, None)
    assert store.workers_of(POOL, 5) == WorkerPage(())
    assert store.workers_of(POOL, 5, over=True) == WorkerPage((left,))
    # It comes back, as one that was put to sleep does.
    again, marker = freed(left, "0", NOW)
    store.commit(*rewritten(left, again), Create(marker))
    assert (store.workers(POOL), store.workers_of(POOL, 5, over=True)) == ([again], WorkerPage(()))


def test_a_worker_that_is_sought_is_not_over(store: Store):
    worker = a_worker()
    sought = gone(worker, "did not answer", LATER, sought_until=NOW)
    store.commit(Create(worker))
    store.commit(*rewritten(worker, sought))
    assert store.workers(POOL) == [sought]
    assert worker.key in store.overdue(NOW, 10)


def test_workers_are_listed_page_by_page(store: Store):
    workers = sorted((a_worker(f"w-{number}") for number in range(5)), key=lambda worker: worker.id)
    for worker in workers:
        store.commit(Create(worker))
    seen: list[Worker] = []
    page = store.workers_of(POOL, 2)
    while True:
        assert len(page.workers) <= 2
        seen += page.workers
        if not page.cursor:
            break
        page = store.workers_of(POOL, 2, page.cursor)
    assert seen == workers
    for forged in ("x", "", "w-1", "ß"):
        if forged:
            with pytest.raises(Refused, match="cursor"):
                store.workers_of(POOL, 2, forged)


def due_records() -> tuple[Run, Worker, Run, Run]:
    return (
        a_run("first", due_at=NOW - 3 * SECOND),
        a_worker(due_at=NOW - 2 * SECOND),
        a_run("now", due_at=NOW),
        a_run("later", due_at=NOW + SECOND),
    )


def test_what_is_overdue_comes_in_the_order_of_its_time(store: Store):
    first, worker, now, later = due_records()
    launch = a_launch(due_at=NOW - SECOND)
    store.commit(*map(Create, (later, now, launch, worker, first, a_run("without"))))
    assert store.overdue(NOW, 10) == [first.key, worker.key, now.key]
    assert store.overdue(NOW, 2) == [first.key, worker.key]
    assert store.overdue(NOW - 4 * SECOND, 10) == []
    assert [store.due(key) for key in store.overdue(NOW, 10)] == [first, worker, now]
    assert store.due(launch.key) == launch


def test_what_is_due_no_more_leaves_the_index(store: Store):
    first, worker, now, _ = due_records()
    store.commit(*map(Create, (first, worker, now)))
    store.commit(Replace(touched(first, due_at=None)))
    store.commit(Replace(touched(now, due_at=NOW + SECOND)))
    store.commit(Delete(worker))
    assert store.overdue(NOW, 10) == []
    assert store.overdue(NOW + SECOND, 10) == [now.key]
    assert store.due(worker.key) is None


def test_only_runs_workers_and_launches_can_be_due(store: Store):
    store.commit(Create(a_pool()))
    assert store.due(keys.pool(POOL)) is None


def test_runs_of_a_pool_are_paged_newest_first(store: Store):
    runs = [a_run(f"run-{number}", accepted_at=NOW + number * SECOND, history=()) for number in range(5)]
    store.commit(*map(Create, runs), Create(a_run("elsewhere", pool_id=OTHER_POOL)))
    first = store.runs_of(POOL, 2)
    second = store.runs_of(POOL, 2, first.cursor)
    third = store.runs_of(POOL, 2, second.cursor)
    assert [page.runs for page in (first, second, third)] == [(runs[4], runs[3]), (runs[2], runs[1]), (runs[0],)]
    assert third.cursor is None
    assert store.runs_of(POOL, 5).cursor is None
    assert store.runs_of("nobody", 5).runs == ()


def test_runs_accepted_in_the_same_millisecond_are_all_listed(store: Store):
    runs = [a_run(f"run-{number}") for number in range(7)]
    store.commit(*map(Create, runs))
    found, cursor = list[Run](), None
    while True:
        page = store.runs_of(POOL, 3, cursor)
        found += page.runs
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(run.id for run in found) == sorted(run.id for run in runs)


@pytest.mark.parametrize("cursor", ["x", "e30", "MTIz", "é", "a" * 500, "AAAA===="])
def test_a_forged_cursor_is_refused(store: Store, cursor: str):
    with pytest.raises(Refused, match="cursor"):
        store.runs_of(POOL, 2, cursor)


def test_a_cursor_of_another_pool_leads_nowhere_else(store: Store):
    theirs = [a_run(f"run-{number}", pool_id=OTHER_POOL, accepted_at=NOW + number * SECOND) for number in range(3)]
    store.commit(*map(Create, theirs))
    cursor = store.runs_of(OTHER_POOL, 1).cursor
    assert cursor
    assert store.runs_of(POOL, 5, cursor).runs == ()


def test_each_marker_is_claimed_exactly_once_by_sixteen_at_a_time(shared_store: Store):
    store, runs = shared_store, [a_run(f"run-{number}") for number in range(60)]
    idle = [an_idle(f"w-{number}", f"{number:04}") for number in range(60)]
    for run, (worker, marker) in zip(runs, idle, strict=True):
        store.commit(Create(run), Create(ticket_for(run)), Create(worker), Create(marker))

    def claim_all(_thread: int) -> list[tuple[str, str]]:
        won: list[tuple[str, str]] = []
        while (tickets := store.tickets(POOL, 4)) and (markers := store.idle(POOL, 4)):
            pair = claim(store, tickets[len(won) % len(tickets)], markers[len(won) % len(markers)])
            won += [pair] if pair else []
        return won

    with ThreadPoolExecutor(16) as threads:
        won = [pair for pairs in threads.map(claim_all, range(16)) for pair in pairs]
    assert sorted(run for run, _ in won) == sorted(run.id for run in runs)
    assert sorted(worker for _, worker in won) == sorted(worker.id for worker, _ in idle)
    for run_id, worker_id in won:
        run, worker = store.run(run_id), store.worker(POOL, worker_id)
        assert run
        assert worker
        assert (run.worker, run.attempt, worker.run) == (worker_id, 1, run_id)


def claim(store: Store, ticket: Ticket, marker: Marker) -> tuple[str, str] | None:
    run = store.run(ticket.run_id)
    assert run
    try:
        taken = claimed(run, marker.worker.id, marker.worker.session, NOW, TIMEOUTS, NOW)
        busy = occupied(marker.worker, run.id, taken.attempt, NOW)
        store.commit(Delete(ticket), Delete(marker), Replace(taken), Replace(busy))
    except (Lost, Busy, ValueError):
        # ValueError: the run just read is not READY any more.
        return None
    return run.id, marker.worker.id


def test_a_counter_raised_by_many_at_once_misses_nobody(shared_store: Store):
    store = shared_store
    store.commit(Create(Counters(pool_id=POOL)))

    def raise_it(thread: int) -> None:
        for number in range(5):
            store.commit(Count(POOL, 3), Create(a_launch(f"{thread}-{number}")))
            store.commit(Count(POOL, -2), Create(a_launch(f"{thread}-{number}-less")))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(raise_it, range(8)))
    assert store.counters(POOL) == Counters(pool_id=POOL, workers_reserved=40, version=81)


def test_what_tasks_have_taken_is_added_to_their_month(shared_store: Store):
    store = shared_store
    store.commit(Create(Counters(pool_id=POOL)))
    told = [
        Spent(month="2026-11", seconds=90, spot=False, runs=1),
        Spent(month="2026-11", seconds=60, spot=True, runs=0),
        Spent(month="2026-12", seconds=0, spot=False, runs=2),
    ]
    for number, spent in enumerate(told):
        store.commit(Count(POOL, -1, spent=spent), Create(a_launch(f"{number}")))
    found = store.counters(POOL)
    assert found
    assert found.months == {
        "2026-11": Month(tasks=2, runs=1, seconds=90, spot_seconds=60),
        "2026-12": Month(tasks=1, runs=2),
    }
    store.commit(Replace(found.corrected(0)))
    assert store.counters(POOL) == found.corrected(0)


def test_bound_tickets_lie_by_themselves_in_the_same_order(store: Store):
    bound = [
        Ticket(pool_id=POOL, rank=rank, accepted_at=NOW + at * SECOND, run_id=a_run(str(at)).id, bound=True)
        for rank, at in ((2, 1), (2, 5), (3, 0))
    ]
    other = Ticket(pool_id=POOL, rank=2, accepted_at=NOW, run_id=a_run("other").id)
    store.commit(*(Create(ticket) for ticket in [*reversed(bound), other]))
    assert (store.bound(POOL, 10), store.bound(POOL, 2)) == (bound, bound[:2])
    assert (store.tickets(POOL, 10), store.bound(OTHER_POOL, 10)) == ([other], [])
    store.commit(Delete(bound[0]))
    assert store.bound(POOL, 10) == bound[1:]


def test_definitions_are_found_by_image_and_by_what_they_were_made_from(store: Store):
    made = [
        ImageDefinition(pool_id=POOL, image=image, made_from=of, task_definition=f"{of}+{image}", used_at=NOW)
        for image, of in (("red", "pool:1"), ("blue", "pool:1"), ("red", "pool:2"))
    ]
    store.commit(*map(Create, made))
    assert store.image_definition(POOL, "pool:2", "red") == made[2]
    assert store.image_definition(POOL, "pool:2", "blue") is None
    assert sorted(one.task_definition for one in store.image_definitions(POOL)) == sorted(
        one.task_definition for one in made
    )
    assert store.image_definitions(OTHER_POOL) == []


def test_a_count_is_kept_within_its_limit_and_moves_nothing_when_it_is_not(store: Store):
    counters, launch = Counters(pool_id=POOL, workers_reserved=3), a_launch()
    for most in (None, 5):
        assert lost_keys(store, Count(POOL, 1, most), Create(launch)) == {counters.key}
    none = Counters(pool_id=OTHER_POOL)
    store.commit(Create(none))
    assert lost_keys(store, Count(OTHER_POOL, 2, most=1)) == {none.key}
    store.commit(Count(OTHER_POOL, 1, most=1))
    assert store.counters(OTHER_POOL) == none.counted(1)
    store.commit(Create(counters))
    assert lost_keys(store, Count(POOL, 3, most=5), Create(launch)) == {counters.key}
    assert (store.counters(POOL), store.launch(POOL, launch.id)) == (counters, None)
    store.commit(Count(POOL, 2, most=5), Create(launch))
    assert store.counters(POOL) == Counters(pool_id=POOL, workers_reserved=5, version=2)
    assert lost_keys(store, Replace(counters.counted(-1))) == {counters.key}
    store.commit(Count(POOL, -5))
    assert store.counters(POOL) == Counters(pool_id=POOL, workers_reserved=0, version=3)


def test_of_two_reservations_by_the_same_queue_one_loses_and_what_is_given_back_disturbs_none(store: Store):
    counters = Counters(pool_id=POOL, workers_reserved=2)
    store.commit(Create(counters))
    for made in range(3):
        store.commit(Count(POOL, -1))
        store.commit(Count(POOL, 2, 9, made), Create(a_launch(f"first-{made}")))
        assert lost_keys(store, Count(POOL, 2, 9, made), Create(a_launch(f"second-{made}"))) == {counters.key}
    assert store.counters(POOL) == Counters(pool_id=POOL, workers_reserved=5, reservations=3, version=7)


@pytest.mark.local
def test_the_deployed_table_has_the_shape_of_the_tests_tables(request: pytest.FixtureRequest):
    cloud = request.getfixturevalue("cloud")
    expected = SHAPE | {"AttributeDefinitions": sorted(SHAPE["AttributeDefinitions"], key=lambda a: a["AttributeName"])}
    assert shape_of(cloud.client("dynamodb"), cloud.outputs["TableName"]) == expected


def test_ids_of_the_tests_are_of_the_real_shape():
    assert len(POOL) == len(ulid(NOW, b"0123456789")) == 26
