"""The live screen: runs, pools and their workers, what happened, and the logs as they stream."""

from collections.abc import Callable
from datetime import UTC, datetime

from quaymaster.domain.api import PoolSummary
from quaymaster.domain.ids import pool_of
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from quaymaster_local.demo.board import KEPT, Board, Row
from quaymaster_local.demo.story import SWEEP_SECONDS
from quaymaster_local.demo.styles import RUNS, STATES

EVENT_LINES = 5
FRAME = 2
"""Lines that a panel's border takes."""
SHOWN_WORKERS = 4


def draw(board: Board, height: int, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> RenderableType:
    """One picture of the whole board for a screen of so many lines."""
    runs = max(1, len(board.rows)) + 1 + FRAME
    pools = max(1, len(board.pools)) + FRAME
    events = EVENT_LINES + FRAME if height >= runs + pools + 2 * EVENT_LINES + 2 * FRAME else 0
    parts = [
        Layout(_title(board), size=1),
        Layout(Panel(_runs(board, now()), title="runs", title_align="left", border_style="dim"), size=runs),
        Layout(Panel(_pools(board), title="pools", title_align="left", border_style="dim"), size=pools),
    ]
    if events:
        told = _last(_event_lines(board), EVENT_LINES)
        parts.append(Layout(Panel(told, title="what happened", title_align="left", border_style="dim"), size=events))
    lines = max(1, height - 1 - runs - pools - events - FRAME)
    logs = Panel(_last(_log_lines(board), lines), title="logs", title_align="left", border_style="dim")
    layout = Layout()
    layout.split_column(*parts, Layout(logs))
    return layout


def _title(board: Board) -> RenderableType:
    swept = f"reaper: swept {board.sweeps} times, here every {SWEEP_SECONDS:.0f} s beside its schedule of a minute"
    line = Table.grid(expand=True)
    line.add_column(no_wrap=True)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(
        Text.assemble((" Quaymaster ", "bold reverse"), f"  {board.seconds:5.1f} s"), Text(f"{swept} ", style="dim")
    )
    return line


def _runs(board: Board, now: datetime) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    table.add_column("run", width=8, no_wrap=True)
    table.add_column("by", width=4, no_wrap=True)
    table.add_column("state", width=9, no_wrap=True)
    table.add_column("worker", width=11, no_wrap=True)
    table.add_column("ran", width=7, justify="right", no_wrap=True)
    table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
    for number, row in enumerate(board.rows):
        table.add_row(*_cells(board, row, _color(number), now))
    return table


def _cells(board: Board, row: Row, color: str, now: datetime) -> list[Text]:
    seen = row.seen
    state = str(seen.state) if seen else "sent"
    worker = board.name(seen.worker) if seen and seen.worker else ""
    return [
        Text(row.scene.name, style=color),
        Text(row.scene.channel, style="dim"),
        Text(state, style=STATES.get(state, "dim")),
        Text(worker),
        Text(_ran(row, now)),
        Text(_note(row), style="red" if seen and seen.reason else "dim"),
    ]


def _ran(row: Row, now: datetime) -> str:
    if not row.seen or not row.seen.begun_at:
        return ""
    return f"{max(0.0, ((row.seen.ended_at or now) - row.seen.begun_at).total_seconds()):.1f} s"


def _note(row: Row) -> str:
    if row.seen and row.seen.reason:
        return f"{row.seen.reason}: {row.scene.what}"
    return row.why or row.scene.what


def _pools(board: Board) -> RenderableType:
    lines = [_pool(board, pool) for pool in board.pools]
    return Group(*lines) if lines else Text("none yet", style="dim")


def _pool(board: Board, pool: PoolSummary) -> Text:
    line = Text(f"{pool.kind:<9}", no_wrap=True, overflow="ellipsis")
    line.append(f"waiting {pool.counts.queued}  starting {pool.counts.starting}   ", style="dim")
    for worker in [one for one in board.workers.values() if pool_of(one.id) == pool.id][-SHOWN_WORKERS:]:
        line.append(f"{board.name(worker.id)} ")
        line.append(f"{worker.state}   ", style=STATES.get(worker.state, ""))
    return line


def _event_lines(board: Board) -> list[Text]:
    return [Text.assemble((f"{line.at:5.1f} s  ", "dim"), line.text) for line in board.events]


def _log_lines(board: Board) -> list[Text]:
    colors = {row.scene.name: _color(number) for number, row in enumerate(board.rows)}
    return [
        Text.assemble(
            (f"{line.run or '':<9}", colors.get(line.run or "", "")), (line.text, "yellow" if line.agent else "")
        )
        for line in board.logs
    ]


def _color(number: int) -> str:
    return RUNS[number % len(RUNS)]


def _last(lines: list[Text], count: int) -> RenderableType:
    """The newest lines, each on one line of the screen."""
    shown = lines[-min(count, KEPT) :]
    for line in shown:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*shown) if shown else Text("nothing yet", style="dim")
