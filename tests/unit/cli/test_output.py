"""What commands print, on a terminal and elsewhere."""

import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from quaymaster.domain.api import RunList, RunSummary
from quaymaster.domain.requests import RunType
from quaymaster.domain.states import Reason, RunState
from quaymaster_cli.runs.listing import show_list
from quaymaster_cli.showing.output import Output, tell, tell_age

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUN = "0VT8RTWS526GQWQWXCA430BPSZ"


def be_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have stdout be a colourful terminal of 60 columns. To be called in the test: captures change stdout before it."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "60", "FORCE_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_times_are_in_the_readers_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    assert tell(NOW) == "2026-01-02 08:34:05+05:30"


def test_a_narrow_terminal_gets_fewer_columns_and_no_fewer_letters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_a_terminal(monkeypatch)
    run = RunSummary(
        run=RUN, pool="P", pool_name="production", request_id="deploy-1842", command=["make", "deploy"], attempt=1,
        type=RunType.TASK, stack="network", state=RunState.FAILED, reason=Reason.EXIT_CODE, exit_code=2,
        accepted_at=NOW,
    )  # fmt: skip
    show_list(Output(), RunList(runs=[run, run]))
    header, *rows = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert header.split() == ["RUN", "STATE", "REASON", "ACCEPTED"]
    assert len(rows) == 2
    assert all(len(line.rstrip()) <= 60 for line in [header, *rows])
    monkeypatch.setenv("COLUMNS", "200")
    show_list(Output(), RunList(runs=[run]))
    wide = capsys.readouterr().out
    for word in ("production", "deploy-1842", "make deploy", "network", "exit_code"):
        assert word in wide


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(seconds=-3), "0s ago"),
        (timedelta(seconds=119), "119s ago"),
        (timedelta(minutes=2), "2m ago"),
        (timedelta(hours=5), "5h ago"),
        (timedelta(days=9), "9d ago"),
    ],
)
def test_an_age_has_one_unit(span: timedelta, said: str) -> None:
    assert tell_age(NOW - span, NOW) == said


def test_values_are_told_plainly() -> None:
    assert [tell(value) for value in (None, True, 3, "x", NOW)] == ["-", "yes", "3", "x", "2026-01-02 03:04:05Z"]


def test_between_programs_columns_are_tabs_and_times_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("RUN", "STATE", "AT"), [(RUN, "READY", NOW)])
    assert capsys.readouterr().out == f"RUN\tSTATE\tAT\n{RUN}\tREADY\t2026-01-02 03:04:05Z\n"


def test_on_a_terminal_ids_stay_whole_and_states_have_colour(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_a_terminal(monkeypatch)
    note = "a long note that has no room beside the others and goes on below"
    Output().table(("RUN", "STATE", "NOTE"), [(RUN, "FAILED", note)])
    out = capsys.readouterr().out
    assert RUN in out
    assert "\x1b[1;31mFAILED" in out
    assert "…" not in out


def test_what_looks_like_markup_is_only_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_a_terminal(monkeypatch)
    Output().table(("NOTE",), [("[bold]x[/bold] [/]",)])
    Output().fields([("note", "[red]x"), ("nothing", None)])
    out = capsys.readouterr().out
    assert "[bold]x[/bold] [/]" in out
    assert "[red]x" in out
    assert "nothing" not in out
