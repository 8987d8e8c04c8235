"""Both timeouts count from `go`; only the phase's bytes set the log timeout back."""

import pytest
from quaymaster.domain.states import Reason
from quaymaster_worker.phase.timeouts import Expired, Limits, Timeouts, Warning


def test_silence_is_warned_about_and_then_ended() -> None:
    timeouts = Timeouts(Limits(log=420, run=4200, warning=60), now=0)
    assert timeouts.next_at() == 360
    assert timeouts.check(359.9) is None
    assert timeouts.check(360) == Warning("no output for 6m: the log timeout ends this phase in 1m")
    assert timeouts.check(360) is None
    assert timeouts.next_at() == 420
    assert timeouts.check(420) == Expired(Reason.LOG_TIMEOUT, "no output for 7m (log timeout)")


def test_output_sets_silence_back_and_the_warning_comes_again() -> None:
    timeouts = Timeouts(Limits(log=10, run=100, warning=2), now=0)
    assert isinstance(timeouts.check(8), Warning)
    timeouts.saw_output(9)
    assert timeouts.quiet_for(12) == 3
    assert timeouts.check(16.9) is None
    assert isinstance(timeouts.check(17), Warning)
    assert isinstance(timeouts.check(19), Expired)


def test_the_run_timeout_ends_a_phase_that_never_stops_talking() -> None:
    timeouts = Timeouts(Limits(log=10, run=30, warning=5), now=100)
    for second in range(100, 125):
        timeouts.saw_output(second)
        assert timeouts.check(second) is None
    assert timeouts.check(125) == Warning("the run timeout of 30s ends this phase in 5s")
    timeouts.saw_output(129)
    assert timeouts.check(130) == Expired(Reason.RUN_TIMEOUT, "still running after 30s (run timeout)")


def test_a_timeout_no_longer_than_the_warning_is_not_warned_about() -> None:
    timeouts = Timeouts(Limits(log=2, run=50, warning=60), now=0)
    assert timeouts.next_at() == 2
    assert isinstance(timeouts.check(2), Expired)


def test_an_extension_counts_from_the_same_moments() -> None:
    timeouts = Timeouts(Limits(log=10, run=20, warning=1), now=0)
    timeouts.extend(Limits(log=30, run=40, warning=1))
    assert timeouts.check(19) is None
    assert timeouts.check(30) == Expired(Reason.LOG_TIMEOUT, "no output for 30s (log timeout)")


@pytest.mark.parametrize(("log", "run", "expected"), [(None, None, (10, 20)), (5, None, (5, 20)), (50, 15, (10, 15))])
def test_the_launcher_can_only_lower_the_limits(
    log: float | None, run: float | None, expected: tuple[float, float]
) -> None:
    limits = Limits(log=10, run=20, warning=1).at_most(log, run)
    assert (limits.log, limits.run) == expected
