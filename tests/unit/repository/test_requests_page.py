"""`docs/requests.md` and the JSON Schemas beside it say what the code takes."""

import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quaymaster.domain.phases import Phase
from quaymaster.domain.requests import Reply, RunRequest, check_request
from quaymaster.errors import Refused

from tools.requests_page import DOCS, MODELS, PAGE, PHASE, REPLY, REQUEST, example, page, schema

EXAMPLES = [
    json.loads(text) for text in re.findall(r"```json\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
]


def test_the_page_is_what_the_models_make() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tools.requests_page`"


@pytest.mark.parametrize("name", MODELS)
def test_the_schemas_are_what_the_models_make(name: str) -> None:
    assert (DOCS / "schemas" / f"{name}.json").read_text(encoding="utf-8") == schema(name)


def test_every_field_is_explained_with_an_example_that_is_taken() -> None:
    assert [field.alias or name for name, field in RunRequest.model_fields.items()] == list(REQUEST)
    assert [field.alias or name for name, field in Reply.model_fields.items()] == list(REPLY)
    one, several = REQUEST.keys() - {"phases", "auto_confirm"}, REQUEST.keys() - {"command"}
    check_request(example(*one))
    check_request(example(*several))
    assert list(Phase.model_fields) == list(PHASE)
    plan = REQUEST["phases"].example[0]
    check_request(example("pool", phases=[plan, {name: told.example for name, told in PHASE.items()}]))


@pytest.mark.parametrize("found", EXAMPLES)
def test_every_example_of_the_page_is_taken(found: dict[str, Any]) -> None:
    name = "reply" if found.get("kind") == "reply" else "request"
    jsonschema.validate(found, json.loads(schema(name)))
    if name == "request":
        check_request(found)
    else:
        Reply.model_validate(found)


@given(found=st.fixed_dictionaries(
    {"pool": st.text(max_size=70), "command": st.lists(st.text(max_size=4), max_size=3)},
    optional={"log_timeout": st.sampled_from(["7m", "1h10m", "P1D", "7", ""]), "id": st.text(max_size=70),
              "type": st.sampled_from(["task", "drift", "holiday"]), "retryable": st.booleans(),
              "environment": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
              "colour": st.just("red")},
))  # fmt: skip
def test_what_the_schema_refuses_is_refused(found: dict[str, Any]) -> None:
    """The other way round is not so: the code refuses more than a schema can say."""
    try:
        jsonschema.validate(found, json.loads(schema("request")))
    except jsonschema.ValidationError:
        with pytest.raises(Refused):
            check_request(found)
