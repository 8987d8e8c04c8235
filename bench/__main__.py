"""`python -m bench`: prints every figure beside its goal and writes them to `build/bench.json`."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.calls import count_calls
from bench.latency import measure_latency
from bench.past import count_past
from bench.reaper import count_reads

REPORT = Path("build/bench.json")
PARTS: Mapping[str, Callable[[], dict[str, float]]] = {
    "calls and write units": count_calls,
    "reads of the reaper": count_reads,
    "reads beside a long past": count_past,
    "latency on the local cloud": measure_latency,
}
MOST: Mapping[str, float] = {
    "aws_calls_per_warm_dispatch": 3,
    "aws_calls_per_run_in_burst_of_10": 1.3,
    "wru_per_run_life": 18,
    "wru_per_run_life_by_ticket": 24,
    "wru_per_run_life_fargate": 40,
    "rru_per_cold_dispatch_growth": 1,
    "rru_per_sweep_of_a_pool_growth": 1,
    "submit_to_agent_p50_over_sqs_to_lambda": 2.5,
    "submit_to_command_p50_over_sqs_to_lambda": 4,
}
"""The goals: no more than this."""


def main() -> int:
    """Run the parts (those named as arguments, or all); 1 if a goal was missed."""
    console = Console()
    wanted = sys.argv[1:] or list(PARTS)
    figures: dict[str, float] = {}
    for name in wanted:
        with console.status(f"measuring {name} …"):
            figures |= PARTS[name]()
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(figures, indent=2) + "\n")
    table = Table("figure", "value", "goal", "", title="Quaymaster benchmarks")
    for name, value in figures.items():
        most = MOST.get(name)
        goal, judged = ("", "") if most is None else (f"<= {most:g}", "met" if value <= most else "[red]missed[/red]")
        table.add_row(name, f"{value:g}", goal, judged)
    console.print(table)
    return 1 if any(figures[name] > most for name, most in MOST.items() if name in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
