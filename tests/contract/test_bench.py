"""The counts of the benchmarks hold their goals at every change; the latencies are measured by `make bench` alone."""

from bench.__main__ import MOST
from bench.calls import count_calls


def test_calls_and_write_units_hold_their_goals() -> None:
    found = count_calls()
    assert found
    assert {name: value for name, value in found.items() if value > MOST[name]} == {}
