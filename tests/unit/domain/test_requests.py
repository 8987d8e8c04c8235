"""Run requests: the good ones are read, the others refused with the field, what was found and what is allowed."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quaymaster.domain.requests import MAX_REQUEST_BYTES, RunRequest, RunType, read_request
from quaymaster.errors import Refused

GOOD: dict[str, Any] = {"schema": 1, "pool": "team-a", "command": ["sh", "-c", "true"]}


def read(**changes: Any) -> RunRequest:
    return read_request(json.dumps(GOOD | changes))


def test_a_small_request_gets_the_defaults():
    request = read()
    assert (request.type, request.environment, request.retryable) == (RunType.TASK, {}, False)
    assert (request.id, request.log_timeout, request.run_timeout) == (None, None, None)


def test_a_full_request_is_read():
    request = read(
        id="ci/42",
        type="proposed",
        stack="network",
        environment={"A": "1", "_B": ""},
        image="busybox:1",
        workspace={"key": "inputs/P0/r-1/workspace.tar.gz"},
        log_timeout="1000s",
        run_timeout="1h10m",
        retryable=True,
        reply_to="quaymaster/replies/c",
    )
    assert (request.log_timeout, request.run_timeout) == (timedelta(seconds=1000), timedelta(minutes=70))
    assert request.type is RunType.PROPOSED
    assert request.workspace
    assert request.workspace.key == "inputs/P0/r-1/workspace.tar.gz"


def test_a_request_that_is_written_reads_back_the_same():
    request = read(log_timeout="90s", environment={"A": "1"})
    assert read_request(request.encode()) == request


@pytest.mark.parametrize(
    ("name", "meant"),
    [("logs_timeout", "log_timeout"), ("env", "environment"), ("cmd", "command"), ("Pool", "pool"), ("colour", None)],
)
def test_a_field_that_a_request_does_not_have_is_refused_with_the_nearest_that_it_has(name: str, meant: str | None):
    with pytest.raises(Refused) as caught:
        read(**{name: "2m"})
    assert caught.value.field == name
    assert (f"perhaps {meant} was meant" in str(caught.value)) == (meant is not None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": "\ud800"}, "id"),
        ({"stack": "a\udfffb"}, "stack"),
        ({"command": ["true", "\ud800"]}, "command"),
        ({"environment": {"A": "\ud800"}}, "environment.A"),
        ({"environment": {"A": "x\0y"}}, "environment.A"),
        ({"image": "a\0b"}, "image"),
        ({"stack": "a\0b"}, "stack"),
        ({"workspace": {"key": "\ud800"}}, "workspace.key"),
        ({"reply_to": "\ud800"}, "reply_to"),
    ],
)
def test_text_that_nothing_can_carry_is_refused_by_name(changes: dict[str, Any], field: str):
    with pytest.raises(Refused) as caught:
        read_request(json.dumps(GOOD | changes))
    assert caught.value.field == field


SECRET = "hunter2hunter2"


@pytest.mark.parametrize("field", [*sorted(set(RunRequest.model_fields) - {"schema_version"}), "schema", "unknown"])
@pytest.mark.parametrize(
    "shape",
    [
        lambda: SECRET,
        lambda: [SECRET],
        lambda: {SECRET: SECRET},
        lambda: {"A": [SECRET]},
        lambda: [[SECRET]],
        lambda: SECRET + "\0",
        lambda: SECRET * 7000,
        lambda: {"key": SECRET, "sha256": SECRET},
    ],
)
def test_no_refusal_repeats_a_value_wherever_it_was_put(field: str, shape: Callable[[], object]):
    try:
        read_request(json.dumps(GOOD | {field: shape()}))
    except Refused as refused:
        shown = str(refused)
        assert SECRET not in shown or field == "environment"
        assert f"{SECRET}'" not in shown


@pytest.mark.parametrize("payload", [f"Bearer {SECRET}", f'{{"id": "{SECRET}', f'"{SECRET}"', f'["{SECRET}"]'])
def test_what_is_no_request_is_not_repeated(payload: str):
    with pytest.raises(Refused) as caught:
        read_request(payload)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"schema": 2}, "schema"),
        ({"schema": "x"}, "schema"),
        ({"pool": ""}, "pool"),
        ({"pool": None}, "pool"),
        ({"pool": "p" * 65}, "pool"),
        ({"command": []}, "command"),
        ({"command": ["  "]}, "command"),
        ({"command": ["a\0b"]}, "command"),
        ({"command": "true"}, "command"),
        ({"command": ["x"] * 257}, "command"),
        ({"id": ""}, "id"),
        ({"id": "x" * 65}, "id"),
        ({"id": "a b"}, "id"),
        ({"type": "nonsense"}, "type"),
        ({"stack": "s" * 65}, "stack"),
        ({"log_timeout": "7"}, "log_timeout"),
        ({"log_timeout": 420}, "log_timeout"),
        ({"run_timeout": "-1m"}, "run_timeout"),
        ({"run_timeout": "0s"}, "run_timeout"),
        ({"workspace": {"key": "logs/../x"}}, "workspace.key"),
        ({"reply_to": "quaymaster/replies/" + "é" * 120}, "reply_to"),
        ({"environment": {"A": 1}}, "environment.A"),
        ({"environment": {"A-B": "x"}}, "environment"),
    ],
    ids=str,
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str):
    with pytest.raises(Refused) as caught:
        read(**changes)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: found ")


def test_a_missing_field_is_named():
    with pytest.raises(Refused, match="pool: found nothing; it is required"):
        read_request('{"schema": 1, "command": ["x"]}')


def test_a_bad_duration_is_told_with_what_is_allowed():
    with pytest.raises(Refused, match=r"log_timeout: found text of 1 characters; .*like '90s', '7m' or '1h10m'"):
        read(log_timeout="7")


def test_a_refusal_never_shows_a_value_of_the_environment():
    with pytest.raises(Refused) as caught:
        read(environment={"TOKEN": ["hunter2"]})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("payload", ["", "{", "nonsense", b"\xff\xfe", "[" * 90_000, "NaN", "[]", '"x"', "1"])
def test_what_is_no_json_object_is_refused(payload: str | bytes):
    with pytest.raises(Refused, match="a JSON object"):
        read_request(payload)


def test_too_much_is_refused_before_it_is_read():
    with pytest.raises(Refused, match=f"at most {MAX_REQUEST_BYTES} bytes"):
        read_request("x" * (MAX_REQUEST_BYTES + 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(RunRequest.model_fields)) | st.just("schema"), JSON))
def test_any_object_is_read_or_refused_and_nothing_else(found: dict[str, Any]):
    try:
        request = read_request(json.dumps(GOOD | found))
    except Refused:
        return
    assert request.command


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_bytes_are_read_or_refused(payload: bytes | str):
    with pytest.raises(Refused):
        read_request(payload)
