"""What is wrong with a field is said in words of this project, whatever model it is a field of."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError
from quaymaster.domain import api, messages, requests
from quaymaster.domain.complaints import allowed

MODELS: list[type[BaseModel]] = [
    requests.RunRequest, api.CreatePool, api.PrepareUpload, api.DeadLetterChoice, messages.Registered,
    messages.PhaseFinished, messages.Renew, messages.PoolToken, messages.LogEnd,
]  # fmt: skip
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 10**20), st.floats(), st.text(max_size=80), st.just("x" * 3000)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=4,
)
_PYDANTICS = ("Input should", "Field required", "String should", "List should", "Extra inputs", "Unable to", "valid ")


@given(data=st.data(), model=st.sampled_from(MODELS))
def test_no_words_of_the_library_reach_anybody(data: st.DataObject, model: type[BaseModel]) -> None:
    names = [field.alias or name for name, field in model.model_fields.items()]
    found = data.draw(st.dictionaries(st.one_of(st.sampled_from(names), st.text(max_size=5)), _VALUES, max_size=4))
    try:
        model.model_validate(found)
    except ValidationError as error:
        for complaint in error.errors(include_url=False):
            said = allowed(complaint)  # pyright: ignore[reportArgumentType]
            assert not any(words in said for words in _PYDANTICS), (complaint["type"], said)
            assert not said.startswith("another value"), f"{complaint['type']} wants words of its own"


class Example(BaseModel):
    """Fields of each kind."""

    size: int = Field(default=1, ge=1, le=9)
    kind: Literal["a", "b"] = "a"
    names: list[str] = Field(default=[], max_length=1)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"size": 0}, "at least 1"),
        ({"size": 10}, "at most 9"),
        ({"size": "many"}, "a whole number"),
        ({"kind": "c"}, "one of 'a' or 'b'"),
        ({"names": ["a", "b"]}, "at most 1 entries"),
        ({"names": "a"}, "a list"),
    ],
)
def test_it_says_what_is_allowed(found: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Example.model_validate(found)
    assert allowed(refused.value.errors()[0]) == said  # pyright: ignore[reportArgumentType]
