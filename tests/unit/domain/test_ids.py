"""Identifiers: their shape, their order, and who they name."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quaymaster.domain import ids

TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2999, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
RANDOM = st.binary(min_size=10, max_size=10)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
POOL = ids.ulid(NOW, b"pool-pool-")


@given(TIMES, RANDOM)
def test_a_ulid_has_26_characters_of_its_alphabet(at: datetime, randomness: bytes):
    assert ids.ULID.fullmatch(ids.ulid(at, randomness))


@given(TIMES, RANDOM, RANDOM)
def test_ulids_sort_by_their_time(at: datetime, one: bytes, other: bytes):
    assert ids.ulid(at, one) < ids.ulid(at + timedelta(milliseconds=2), other)


def test_a_ulid_is_spelled_as_its_specification_says():
    at = datetime.fromtimestamp(1469918176.385, UTC)
    assert ids.ulid(at, b"\x00" * 10) == "01ARYZ6S41" + "0" * 16
    assert ids.ulid(at, b"\xff" * 10) == "01ARYZ6S41" + "Z" * 16


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_a_request_leads_to_one_run_and_another_to_another(one: str, other: str):
    assert ids.ULID.fullmatch(ids.run_id(POOL, one))
    assert (ids.run_id(POOL, one) == ids.run_id(POOL, other)) == (one == other)


def test_the_same_request_id_in_two_pools_leads_to_two_runs():
    assert ids.run_id("A", "x") != ids.run_id("B", "x")


def test_a_worker_id_names_its_pool():
    assert ids.pool_of(ids.worker_id("quaymaster", POOL, "0" * 32)) == POOL


@pytest.mark.parametrize(
    "stranger",
    [
        "",
        "iotconsole-1",
        "a.b.c",
        f"quaymaster.{POOL}",
        f"quaymaster.{POOL}.",
        f"quaymaster.{POOL}.w.x",
        f"x.{POOL}.a#b12345",
    ],
)
def test_a_strange_client_id_names_no_pool(stranger: str):
    assert ids.pool_of(stranger) is None


def test_a_tasks_id_is_the_last_part_of_its_arn():
    assert ids.task_id("arn:aws:ecs:us-east-1:123456789012:task/cluster/0a1b") == "0a1b"


def test_topics_put_the_whole_worker_id_where_the_policy_pins_it():
    worker = ids.worker_id("ns", POOL, "0" * 26)
    assert ids.topic_to("ns", POOL, worker) == f"ns/to/{POOL}/{worker}"
    assert ids.topic_from("ns", POOL, worker, "prepared") == f"ns/from/{POOL}/{worker}/prepared"
