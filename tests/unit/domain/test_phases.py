"""Phases in a request: what may follow what, and the legs that they make."""

import json
from typing import Any

import pytest
from quaymaster.domain.phases import Leg, Phase, leg_of
from quaymaster.domain.requests import RunRequest, read_request
from quaymaster.errors import Refused

PLAN: dict[str, Any] = {"name": "plan", "command": ["plan"], "retryable": True}
APPLY: dict[str, Any] = {"name": "apply", "command": ["apply"], "needs_confirmation": True}


def read(*phases: dict[str, Any], **fields: Any) -> RunRequest:
    return read_request(json.dumps({"schema": 1, "pool": "red", "phases": list(phases), **fields}))


def test_phases_are_read_and_written_as_they_came():
    request = read(PLAN | {"before": [["init"]], "run_timeout": "10m"}, APPLY, on_end=[["notify"]], auto_confirm=True)
    assert [phase.name for phase in request.phases] == ["plan", "apply"]
    assert request.phases[0].commands == (("init",), ("plan",))
    assert read_request(request.encode()) == request


WRONG: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
    ([PLAN, PLAN], {}, "phases.1.name: found 'plan'; a name that no other phase of the run has"),
    ([{"name": "plan"}], {}, "phases.0.command: found nothing; it is required"),
    ([PLAN | {"command": []}], {}, "phases.0.command: found a list of 0; at least 1 entries"),
    ([PLAN | {"command": [" "]}], {}, "phases.0.command: found a list of 1; the command's first word is empty"),
    ([PLAN | {"before": [[]]}], {}, "phases.0.before.0: found a list of 0; at least 1 entries"),
    ([PLAN | {"name": "Plan B"}], {}, "phases.0.name: found"),
    ([APPLY], {}, "phases.0.needs_confirmation: found true; false: before the first phase"),
    ([PLAN], {"command": ["true"]}, "command: found a command beside phases; one of the two"),
    ([PLAN], {"retryable": True}, "retryable: found true; false: each of the phases says it for itself"),
    ([], {"auto_confirm": True, "command": ["true"]}, "auto_confirm: found true; false: there are no phases"),
    ([], {}, "command: found nothing; it is required, unless there are phases"),
    ([PLAN | {"name": f"p{n}"} for n in range(9)], {}, "phases: found a list of 9; at most 8 entries"),
    ([PLAN | {"environment": {"A-B": "x"}}], {}, "phases.0.environment"),
    ([PLAN | {"environment": {"A": "x" * 140_000}}], {}, "phases.0.environment.A: found 140002 bytes"),
    ([PLAN | {"shell": True}], {}, "phases.0"),
]


@pytest.mark.parametrize(("phases", "fields", "said"), WRONG)
def test_what_makes_no_sense_is_refused_by_its_field(phases: list[Any], fields: dict[str, Any], said: str):
    with pytest.raises(Refused) as refused:
        read(*phases, **fields)
    assert str(refused.value).startswith(said)


def test_a_value_of_a_phase_s_environment_is_never_repeated():
    with pytest.raises(Refused) as refused:
        read(PLAN | {"environment": {"TOKEN": 42_4242}})
    assert "phases.0.environment.TOKEN" in str(refused.value)
    assert "424242" not in str(refused.value)


def phases(*needs: bool) -> list[Phase]:
    return [
        Phase(name=f"p{number}", command=("x",), needs_confirmation=asks, retryable=not number)
        for number, asks in enumerate(needs)
    ]


def test_a_leg_ends_before_what_needs_confirmation():
    found = phases(False, False, True, False, True)
    assert leg_of(found, 0, auto_confirm=False) == Leg(first=0, end=2, of=5, retryable=True)
    assert leg_of(found, 2, auto_confirm=False) == Leg(first=2, end=4, of=5)
    assert leg_of(found, 4, auto_confirm=False) == Leg(first=4, end=5, of=5)
    assert leg_of(found, 0, auto_confirm=True) == Leg(first=0, end=5, of=5, retryable=True)
