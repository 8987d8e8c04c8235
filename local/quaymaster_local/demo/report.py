"""What stays when the screen has gone: lines as they come where there is no terminal, and the table at the end."""

from collections.abc import Sequence
from datetime import datetime

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from quaymaster_local.demo.board import Board, Line
from quaymaster_local.demo.styles import STATES
from quaymaster_local.demo.verdict import Verdict

GOOD, BAD = "✓", "✗"


def tell_plainly(console: Console, line: Line) -> None:
    """One line of progress."""
    source = f"{line.run:<8}| " if line.run else ""
    console.print(f"{line.at:6.1f} s  {source}{line.text}", markup=False, highlight=False, soft_wrap=True)


def show_verdicts(console: Console, board: Board, verdicts: Sequence[Verdict]) -> None:
    """The table of runs, ends and expectations, and one line that says what it comes to."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False)
    for name in ("run", "by", "worker"):
        table.add_column(name, no_wrap=True)
    for name in ("attempt", "waited", "ran", "log lines"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("ended as", "expected"):
        table.add_column(name, no_wrap=True)
    table.add_column("", no_wrap=True)
    for verdict in verdicts:
        table.add_row(*_cells(board, verdict))
    console.print()
    console.print(table)
    _show_sum(console, verdicts)


def _cells(board: Board, verdict: Verdict) -> list[Text]:
    row, view = verdict.row, verdict.row.view
    seen = view or row.seen
    lines = view.digest.lines if view and view.digest else None
    return [
        Text(row.scene.name),
        Text(row.scene.channel, style="dim"),
        Text(board.name(seen.worker) if seen and seen.worker else "-"),
        Text(str(seen.attempt) if seen else "-"),
        Text(_span(seen.accepted_at, seen.begun_at) if seen else "-"),
        Text(_span(seen.begun_at, seen.ended_at) if seen else "-"),
        Text("-" if lines is None else str(lines)),
        Text(verdict.ended, style=STATES.get(verdict.ended.partition(" ")[0], "")),
        Text(verdict.expected, style="dim"),
        Text(BAD, style="bold red") if verdict.wrong else Text(GOOD, style="green"),
    ]


def _span(start: datetime | None, end: datetime | None) -> str:
    return f"{(end - start).total_seconds():.1f} s" if start and end else "-"


def _show_sum(console: Console, verdicts: Sequence[Verdict]) -> None:
    wrong = [verdict for verdict in verdicts if verdict.wrong]
    for verdict in wrong:
        problem = f"{BAD} {verdict.row.scene.name}: {'; '.join(verdict.wrong)}"
        console.print(Text(problem, style="red"), soft_wrap=True)
    if verdicts and not wrong:
        console.print(Text(f"{GOOD} all {len(verdicts)} runs ended as they should", style="bold green"))
    else:
        ended = len(verdicts) - len(wrong)
        console.print(Text(f"{BAD} {ended} of {len(verdicts)} runs ended as they should", style="bold red"))
