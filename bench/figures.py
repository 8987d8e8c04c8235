"""Figures: what was measured, how far it spread, and what it must not exceed."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST: Mapping[str, float] = {
    "aws_calls_per_warm_dispatch": 3,
    "aws_calls_per_run_in_burst_of_10": 1.3,
    "wru_per_run_life": 18,
    "wru_per_run_life_by_ticket": 24,
    "wru_per_run_life_fargate": 40,
    "rru_per_cold_dispatch_growth": 1,
    "rru_per_sweep_of_a_pool_growth": 1,
    "cold_import_dispatch_runs": 1.1,
    "cold_import_receive_worker_events": 1.1,
    "cold_import_receive_task_events": 1.1,
    "cold_import_reap_overdue": 1.1,
    "cold_import_serve_api": 1.4,
    "own_cpu_ms_per_dispatched_run": 0.25,
    "first_agent_mb": 60,
    "further_worker_mb": 1,
    "submit_to_agent_over_bare_chain": 1.3,
    "submit_to_command_over_two_bare_chains": 1.3,
}
"""The goals: no more than this. A ratio is of figures that were measured in turns, on the same machine."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What was measured, from where to where it spread; a count has no spread."""

    value: float
    low: float
    high: float

    def over(self, yardstick: "Figure", times: int = 1) -> "Figure":
        """As a multiple of the yardstick, taken so often."""
        unit = yardstick.value * times
        return Figure(value=self.value / unit, low=self.low / unit, high=self.high / unit)


type Figures = Mapping[str, Figure]


def counted(value: float) -> Figure:
    """What comes out the same each time."""
    return Figure(value=value, low=value, high=value)


def measured(samples: Sequence[float]) -> Figure:
    """What spreads."""
    low, value, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Figure(value=value, low=low, high=high)


def least(samples: Sequence[float]) -> Figure:
    """CPU time, to which other work of the machine only ever adds: the least is nearest to what it takes.

    The spread goes up to the median, and so tells how busy the machine was.
    """
    found = min(samples)
    return Figure(value=found, low=found, high=statistics.median(samples))


def missed(figures: Figures) -> list[str]:
    """The goals that were measured and not met."""
    return [name for name, most in MOST.items() if name in figures and figures[name].value > most]
