"""Showing things: tables and colour on a terminal, plain columns elsewhere, JSON when it was asked for."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from quaymaster_cli.showing.plain import visible
from quaymaster_cli.showing.styles import STYLES

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

WHOLE = frozenset({"RUN", "ID", "WORKER", "NAME", "STATE", "LETTER"})
"""Columns that a narrow terminal does not break."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a command's results go. Results are on stdout; whatever is said beside them is on stderr."""

    json: bool = False

    def show_json(self, model: "BaseModel") -> None:
        """A model as JSON."""
        print(model.model_dump_json(indent=2, by_alias=True))

    def show_mapping(self, values: Mapping[str, object]) -> None:
        """A few values as JSON."""
        print(json.dumps(values, indent=2, default=str))

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], spare: Sequence[str] = (), least: int = 24
    ) -> None:
        """Rows under their columns; between programs, separated by tabs.

        Where a terminal is too narrow, the columns of `spare` go, the first of them first. What stays is folded, and
        counts with `least` characters unless it is one of WHOLE.
        """
        if not sys.stdout.isatty():
            for row in [columns, *rows]:
                print("\t".join(tell(cell) for cell in row))
            return
        from rich.table import Table
        from rich.text import Text

        now = datetime.now(UTC)
        texts = [[tell_age(cell, now) if isinstance(cell, datetime) else tell(cell) for cell in row] for row in rows]
        console = _console()
        kept = _fitting(columns, texts, spare, least, console.width)
        columns = [columns[at] for at in kept]
        texts = [[row[at] for at in kept] for row in texts]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for name in columns:
            # What people copy stays whole, whatever the terminal's width.
            table.add_column(name, overflow="fold", no_wrap=name in WHOLE)
        for row in texts:
            table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        console.print(table)

    def fields(self, values: Sequence[tuple[str, object]]) -> None:
        """Names and values, one a line; what is None is left out."""
        shown = [(name, tell(value)) for name, value in values if value is not None]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            self.line(f"{name:<{width}}  ", value)

    def line(self, name: str, value: str) -> None:
        """A name, dimmed on a terminal, and its value."""
        if not sys.stdout.isatty():
            print(f"{name}{value}".rstrip())
            return
        from rich.text import Text

        _console().print(Text.assemble((name, "dim"), (value, STYLES.get(value, ""))), soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a result as it is."""
        print(text)

    def note(self, *lines: str) -> None:
        """Say something beside the result. A line end within a line is not ours, and is shown as what it is."""
        for line in map(visible, lines):
            print(f"\x1b[2m{line}\x1b[0m" if sys.stderr.isatty() else line, file=sys.stderr)


def _fitting(
    columns: Sequence[str], texts: Sequence[Sequence[str]], spare: Sequence[str], least: int, width: int
) -> list[int]:
    """Which columns fit into a width, by their places."""
    wide = [max(map(len, [name, *(row[at] for row in texts)])) for at, name in enumerate(columns)]
    needed = [size if name in WHOLE else min(size, least) for name, size in zip(columns, wide, strict=True)]
    kept = list(range(len(columns)))
    for name in spare:
        if sum(needed[at] + 2 for at in kept) - 2 <= width:
            break
        kept.remove(columns.index(name))
    return kept


def tell(value: object) -> str:
    """A value for people."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        # In the reader's own zone, which is named by its distance: a bare time is nobody's.
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S%:z").replace("+00:00", "Z")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return visible(str(value))


def tell_age(at: datetime, now: datetime) -> str:
    """How long ago something was, in one unit."""
    return f"{tell_span(max(0, round((now - at).total_seconds())))} ago"


def tell_span(seconds: int) -> str:
    """How long something took or is ago, in one unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)
