"""Outputs: named values, and names of what is sensitive."""

import json

import pytest
from quaymaster.domain.outputs import MAX_OUTPUT_BYTES, MAX_OUTPUTS, read_outputs
from quaymaster.errors import Refused


def test_values_are_kept_as_they_are() -> None:
    told = {"url": "https://x", "count": 3, "ok": True, "none": None, "list": [1, {"a": "b"}], "object": {"a": 1}}
    found = read_outputs(json.dumps(told).encode())
    assert (found.outputs, found.sensitive) == (told, [])


def test_what_terraform_prints_is_read_and_what_is_sensitive_is_only_named() -> None:
    told = {
        "url": {"sensitive": False, "type": "string", "value": "https://x"},
        "token": {"sensitive": True, "type": "string", "value": "hunter2"},
        "plain": {"value": [1]},
        "own": {"value": 1, "unit": "s"},
        "odd": {"value": "hunter2", "sensitive": "no"},
    }
    found = read_outputs(json.dumps(told).encode())
    assert found.outputs == {"url": "https://x", "plain": [1], "own": {"value": 1, "unit": "s"}}
    assert found.sensitive == ["token", "odd"]
    assert "hunter2" not in found.model_dump_json()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"hunter2", "7 bytes that are no JSON"),
        (b'["hunter2"]', "a JSON object of names and values"),
        (b'{"hunter 2": 1}', "names that match"),
        (b'{"": 1}', "names that match"),
        (b"[" * 60_000, "no JSON"),
        (b" " * (MAX_OUTPUT_BYTES + 1), f"at most {MAX_OUTPUT_BYTES} bytes"),
        (json.dumps({f"n{number}": 1 for number in range(MAX_OUTPUTS + 1)}).encode(), f"at most {MAX_OUTPUTS}"),
        (b"\xff\xfe", "no JSON"),
        (b'{"a": NaN}', "no JSON"),
        (b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}", "nested too deeply"),
    ],
)
def test_what_is_no_object_of_names_is_refused_and_never_repeated(body: bytes, said: str) -> None:
    with pytest.raises(Refused) as refused:
        read_outputs(body)
    assert said in str(refused.value)
    assert "hunter" not in str(refused.value)
