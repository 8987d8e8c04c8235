"""The counts of the benchmarks hold their goals at every change; the latencies are measured by `make bench` alone."""

import logging

import pytest
from quaymaster.domain.cost import CALLS_OF_A_RUN

from bench.calls import count_calls
from bench.figures import counted, least, measured, missed


def test_calls_and_write_units_hold_their_goals(caplog: pytest.LogCaptureFixture) -> None:
    # The functions set the level of our loggers: it is put back behind them.
    caplog.set_level(logging.INFO, "quaymaster")
    found = count_calls()
    assert found
    assert missed(found) == []
    # What a pool is shown as its control plane's calls goes by this figure.
    assert found["aws_calls_per_run_life_fargate"].value == CALLS_OF_A_RUN


def test_a_goal_is_missed_by_the_median_and_told_by_name() -> None:
    found = {"wru_per_run_life": counted(18), "first_agent_mb": measured([59, 61, 62, 70]), "unjudged": counted(1e9)}
    assert missed(found) == ["first_agent_mb"]


def test_cpu_time_is_the_least_that_was_seen() -> None:
    figure = least([3, 1, 2])
    assert (figure.low, figure.value, figure.high) == (1, 1, 2)


def test_a_figure_has_its_quartiles_and_is_a_multiple_of_a_yardsticks_median() -> None:
    figure = measured([1, 2, 3, 4, 5])
    assert (figure.low, figure.value, figure.high) == (2, 3, 4)
    over = figure.over(measured([0.5, 1, 1.5]), times=2)
    assert (over.low, over.value, over.high) == (1, 1.5, 2)
