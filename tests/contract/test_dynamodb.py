"""What DynamoDB does to a store and memory never would: conflicts, throttling, answers lost, and calls to pay for."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws
from quaymaster.adapters.dynamodb.store import TRIES, Backoff, DynamoStore
from quaymaster.adapters.records.codec import key_item
from quaymaster.domain import keys
from quaymaster.domain.pool import Counters, ticket_for
from quaymaster.domain.run import touched
from quaymaster.errors import Busy, Lost, Unavailable
from quaymaster.ports import Create, Delete, Replace, Require, Write

from tests.contract.botocore_faults import answering, canceled, counting, losing_answers, refusal
from tests.shared.deployed.tables import own_table
from tests.shared.memory.records import NOW, POOL, a_launch, a_pool, a_run, a_spec, a_worker, an_idle

RETRIES = Config(retries={"mode": "standard", "total_max_attempts": 3})


@dataclass
class Bench:
    """A store, its client, and how long it slept."""

    client: Any
    store: DynamoStore
    slept: list[float] = field(default_factory=list[float])


def opened(client: Any, table: str) -> Bench:
    slept: list[float] = []
    return Bench(client, DynamoStore(client, table, Backoff(random=lambda: 1.0, sleep=slept.append)), slept)


@pytest.fixture
def moto_bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        session: Any = boto3.Session(region_name="us-east-1")
        client = session.client("dynamodb", config=RETRIES)
        with own_table(client, "quaymaster") as table:
            yield opened(client, table)


@pytest.fixture(params=["moto", pytest.param("local", marks=pytest.mark.local)])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "moto":
        yield request.getfixturevalue("moto_bench")
        return
    client = request.getfixturevalue("cloud").client("dynamodb")
    with own_table(client, "contract-dynamodb") as table:
        yield opened(client, table)


RUN = a_run()
WORKER, MARKER = an_idle()
STANDING = [Create(a_pool()), Create(RUN), Create(ticket_for(RUN)), Create(WORKER), Create(MARKER)]
COMMITS: dict[str, list[Write]] = {
    "create": [Create(a_launch())],
    "replace": [Replace(touched(RUN, due_at=NOW))],
    "delete": [Delete(MARKER)],
    "several": [Require(a_pool()), Create(a_launch()), Replace(touched(RUN, due_at=NOW)), Delete(MARKER)],
    "deletes": [Delete(MARKER), Delete(ticket_for(RUN))],
}


@pytest.mark.parametrize("writes", COMMITS.values(), ids=COMMITS)
def test_a_commit_whose_answer_was_lost_counts_as_made_and_is_made_once(bench: Bench, writes: list[Write]):
    bench.store.commit(*STANDING)
    with losing_answers(bench.client, 1) as lost:
        bench.store.commit(*writes)
    assert len(lost) == 1
    with pytest.raises(Lost):
        bench.store.commit(*writes)


@pytest.mark.parametrize("writes", COMMITS.values(), ids=COMMITS)
def test_a_lost_race_is_lost_even_if_the_answer_got_lost_too(bench: Bench, writes: list[Write]):
    bench.store.commit(*STANDING)
    bench.store.commit(Replace(touched(RUN)), Create(a_launch(count=9)), Replace(replace(MARKER, version=2)))
    with losing_answers(bench.client, 1) as lost, pytest.raises(Lost):
        bench.store.commit(*writes)
    assert len(lost) == 1
    assert bench.store.launch(POOL, a_launch().id) == a_launch(count=9)


def test_a_table_that_never_answers_is_unavailable(bench: Bench):
    with losing_answers(bench.client, 99), pytest.raises(Unavailable, match="ConnectionClosedError"):
        bench.store.commit(Create(RUN))
    with losing_answers(bench.client, 99), pytest.raises(Unavailable, match="DynamoDB"):
        bench.store.run(RUN.id)


@pytest.mark.parametrize("reason", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_contended_transaction_is_tried_again_under_the_same_token(moto_bench: Bench, reason: str):
    contended = canceled("None", reason)
    with answering(moto_bench.client, contended, contended) as calls:
        moto_bench.store.commit(Create(RUN), Create(WORKER))
    assert moto_bench.slept == [0.02, 0.04]
    assert len({str(call["body"]) for call in calls}) == 1
    assert moto_bench.store.run(RUN.id) == RUN


@pytest.mark.parametrize(
    "answer",
    [
        refusal("TransactionConflictException"),
        refusal("ProvisionedThroughputExceededException"),
        refusal("ThrottlingException"),
        refusal("RequestLimitExceeded"),
    ],
    ids=lambda answer: answer["Error"]["Code"],
)
def test_a_contended_write_of_one_item_is_tried_again(moto_bench: Bench, answer: dict[str, Any]):
    with answering(moto_bench.client, answer):
        moto_bench.store.commit(Create(RUN))
    assert moto_bench.slept == [0.02]
    assert moto_bench.store.run(RUN.id) == RUN


def test_contention_without_end_is_busy_soon_and_changes_nothing(moto_bench: Bench):
    with (
        answering(moto_bench.client, *[canceled("TransactionConflict", "None")] * TRIES) as calls,
        pytest.raises(Busy, match=f"run#{RUN.id}/run"),
    ):
        moto_bench.store.commit(Create(RUN), Create(WORKER))
    assert len(calls) == TRIES
    assert sum(moto_bench.slept) < 3.2
    assert moto_bench.store.run(RUN.id) is None


def test_contention_after_a_lost_answer_is_not_called_unchanged(moto_bench: Bench):
    doubtful = canceled("TransactionConflict", "None", retries=1)
    with answering(moto_bench.client, *[doubtful] * TRIES), pytest.raises(Unavailable, match="may have been made"):
        moto_bench.store.commit(Create(RUN), Create(WORKER))


def test_a_failed_condition_beside_a_conflict_is_lost_and_only_the_condition_is_named(moto_bench: Bench):
    with (
        answering(moto_bench.client, canceled("TransactionConflict", "ConditionalCheckFailed")),
        pytest.raises(Lost) as caught,
    ):
        moto_bench.store.commit(Create(RUN), Create(WORKER))
    assert caught.value.keys == {WORKER.key}
    assert moto_bench.slept == []


@pytest.mark.parametrize(
    "answer",
    [
        refusal("AccessDeniedException"),
        refusal("ValidationException"),
        refusal("InternalServerError", 500),
        canceled("None", "ValidationError"),
    ],
    ids=["denied", "invalid", "internal", "invalid action"],
)
def test_any_other_answer_is_unavailable_with_the_services_own_words(moto_bench: Bench, answer: dict[str, Any]):
    with answering(moto_bench.client, answer), pytest.raises(Unavailable, match="as the test has it"):
        moto_bench.store.commit(Create(RUN), Create(WORKER))


def test_keys_that_a_batch_left_out_are_asked_for_again(moto_bench: Bench):
    moto_bench.store.commit(Create(RUN))
    rest = {"quaymaster": {"Keys": [key_item(RUN.key)], "ConsistentRead": True}}
    unread = {"Responses": {}, "UnprocessedKeys": rest, "ResponseMetadata": {"HTTPStatusCode": 200}}
    with answering(moto_bench.client, unread, unread):
        assert moto_bench.store.runs([RUN.id]) == {RUN.id: RUN}
    assert moto_bench.slept == [0.02, 0.04]
    with answering(moto_bench.client, *[unread] * TRIES), pytest.raises(Unavailable, match="1 keys unread"):
        moto_bench.store.runs([RUN.id])


def test_nothing_is_called_more_often_than_it_must(moto_bench: Bench):
    store = moto_bench.store
    with counting(moto_bench.client) as calls:
        store.commit(Create(RUN), Create(a_spec(RUN)))
        store.commit(Create(a_pool()))
        store.commit(Replace(touched(RUN, due_at=NOW)))
        store.commit(Create(MARKER))
        store.commit(Delete(MARKER))
    assert calls == {"TransactWriteItems": 1, "PutItem": 3, "DeleteItem": 1}
    with counting(moto_bench.client) as calls:
        store.run_and_spec(RUN.id)
        store.tickets(POOL, 100)
        store.idle(POOL, 100)
        store.workers(POOL)
    assert calls == {"Query": 4}
    with counting(moto_bench.client) as calls:
        store.runs(a_run(str(number)).id for number in range(150))
    assert calls == {"BatchGetItem": 2}
    with counting(moto_bench.client) as calls:
        store.runs_of(POOL, 50)
    assert calls == {"Query": 1, "BatchGetItem": 1}
    with counting(moto_bench.client) as calls:
        store.overdue(NOW, 100)
    assert calls == {"Query": 8}


def test_an_item_of_a_later_version_is_read_and_an_unknown_kind_passed_over(moto_bench: Bench):
    store = moto_bench.store
    store.commit(Create(a_worker()), Create(Counters(pool_id=POOL)))
    put = moto_bench.client.put_item
    put(TableName="quaymaster", Item=key_item(keys.counters(POOL)) | {"version": {"N": "8"}, "queued": {"N": "1"}})
    put(TableName="quaymaster", Item={"pk": {"S": RUN.key.pk}, "sk": {"S": "output"}, "version": {"N": "1"}})
    assert store.counters(POOL) == Counters(pool_id=POOL, version=8)
    store.commit(Create(RUN), Create(a_spec(RUN)))
    assert store.run_and_spec(RUN.id) == (RUN, a_spec(RUN))
