"""`docs/states.md` says what the code's table says."""

from quaymaster.domain.states import FINAL, TRANSITIONS, Reason, RunState

from tools.states_page import PAGE, REASONS, STATES, page


def test_the_page_is_what_the_table_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tools.states_page`"


def test_every_state_and_every_reason_is_explained() -> None:
    assert set(STATES) == set(RunState)
    assert set(REASONS) == set(Reason)


def test_every_arrow_has_a_line_of_its_own() -> None:
    diagram = page().partition("```mermaid")[2].partition("```")[0].split("\n")
    arrows = {f"    {t.source or '[*]'} --> {t.target}" for t in TRANSITIONS}
    assert arrows <= set(diagram)
    assert {f"    {state} --> [*]" for state in FINAL} <= set(diagram)


def test_no_reason_is_without_an_end() -> None:
    """A reason that no arrow takes could be shown by nothing, and would stand in the code for ever."""
    taken = {reason for transition in TRANSITIONS for reason in transition.reasons}
    assert taken == set(Reason)
