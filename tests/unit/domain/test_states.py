"""The table of states: what it says of itself."""

import pytest
from quaymaster.domain.states import FINAL, HELD, NEXT, TRANSITIONS, Reason, RunState, allowed


def test_final_states_are_final():
    assert {state for state in RunState if not NEXT[state]} == FINAL


def test_every_state_is_reached_and_every_reason_ends_something():
    assert {t.target for t in TRANSITIONS} == set(RunState)
    assert set().union(*(t.reasons for t in TRANSITIONS)) == set(Reason)


def test_only_an_end_has_reasons_and_a_run_that_went_well_has_none():
    for transition in TRANSITIONS:
        assert not transition.reasons or transition.target in FINAL - {RunState.FINISHED, RunState.SKIPPED}


def test_a_run_is_held_exactly_where_a_worker_can_end_it():
    assert {t.source for t in TRANSITIONS if t.target is RunState.READY} == {
        None,
        RunState.QUEUED,
        RunState.UNCONFIRMED,
    } | HELD


@pytest.mark.parametrize("source", [None, *RunState])
@pytest.mark.parametrize("target", RunState)
def test_an_arrow_is_allowed_exactly_with_its_reasons(source: RunState | None, target: RunState):
    found = {reason for reason in (None, *Reason) if allowed(source, target, reason)}
    arrows = [t for t in TRANSITIONS if (t.source, t.target) == (source, target)]
    assert found == {reason for t in arrows for reason in (t.reasons or {None})}
    assert bool(found) == (target in NEXT[source])
