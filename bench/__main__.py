"""`python -m bench`: prints every figure beside its goal and writes them to `build/bench.json`."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.agents import measure_agents
from bench.calls import count_calls
from bench.figures import MOST, Figures, missed
from bench.imports import measure_imports
from bench.latency import measure_latency
from bench.own_cpu import measure_own_cpu
from bench.past import count_past
from bench.reaper import count_reads

REPORT = Path("build/bench.json")
PARTS: Mapping[str, Callable[[], Figures]] = {
    "calls and write units": count_calls,
    "reads of the reaper": count_reads,
    "reads beside a long past": count_past,
    "own cpu of a dispatch": measure_own_cpu,
    "cold imports": measure_imports,
    "memory of agents": measure_agents,
    "latency on the local cloud": measure_latency,
}


def main() -> int:
    """Run the parts (those named as arguments, or all); 1 if a goal was missed."""
    console = Console()
    wanted = sys.argv[1:] or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        console.print(f"no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
        return 2
    figures: dict[str, Figures] = {}
    for name in wanted:
        with console.status(f"measuring {name} …"):
            figures[name] = PARTS[name]()
    found = {name: figure for part in figures.values() for name, figure in part.items()}
    REPORT.parent.mkdir(exist_ok=True)
    told = {name: asdict(figure) | {"most": MOST.get(name)} for name, figure in found.items()}
    REPORT.write_text(json.dumps(told, indent=2) + "\n")
    console.print(_table(found))
    return 1 if missed(found) else 0


def _table(figures: Figures) -> Table:
    table = Table("figure", "value", "spread", "goal", "", title="Quaymaster benchmarks")
    wrong = missed(figures)
    for name, figure in figures.items():
        most = MOST.get(name)
        spread = "" if figure.low == figure.high else f"{figure.low:.4g} to {figure.high:.4g}"
        goal, judged = ("", "") if most is None else (f"<= {most:g}", "[red]missed[/red]" if name in wrong else "met")
        table.add_row(name, f"{figure.value:.4g}", spread, goal, judged)
    return table


if __name__ == "__main__":
    sys.exit(main())
