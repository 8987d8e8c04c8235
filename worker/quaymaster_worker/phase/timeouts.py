"""The two timeouts of a phase, as arithmetic on a monotonic clock."""

from dataclasses import dataclass
from datetime import timedelta

from quaymaster.domain.durations import format_duration
from quaymaster.domain.states import Reason


@dataclass(frozen=True)
class Warning:
    """A line for the log: a timeout comes near."""

    text: str


@dataclass(frozen=True)
class Expired:
    """A timeout has passed: end the phase."""

    reason: Reason
    note: str


@dataclass(frozen=True)
class Limits:
    """Both timeouts, in seconds, and how long before each a warning is due."""

    log: float
    run: float
    warning: float

    def at_most(self, log: float | None, run: float | None) -> "Limits":
        """These limits, or lower ones that the launcher set."""
        return Limits(min(self.log, log or self.log), min(self.run, run or self.run), self.warning)


class Timeouts:
    """Both count from `go`; every byte of the phase sets the log timeout back, and nothing else does."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._began = now
        self._last_output = now
        self._warned_log = False
        self._warned_run = False

    def saw_output(self, now: float) -> None:
        """The phase wrote something."""
        self._last_output = now
        self._warned_log = False

    def extend(self, limits: Limits) -> None:
        """New limits, counted from the same beginnings; warnings that are due again come again."""
        self._limits = limits
        self._warned_log = self._warned_run = False

    def quiet_for(self, now: float) -> float:
        """Seconds since the phase last wrote something (or since it began)."""
        return max(0.0, now - self._last_output)

    def check(self, now: float) -> Warning | Expired | None:
        """What is due now; call again until it is None."""
        if now >= self._began + self._limits.run:
            return Expired(Reason.RUN_TIMEOUT, f"still running after {_span(self._limits.run)} (run timeout)")
        if now >= self._last_output + self._limits.log:
            return Expired(Reason.LOG_TIMEOUT, f"no output for {_span(self._limits.log)} (log timeout)")
        if not self._warned_run and (at := self._run_warning()) is not None and now >= at:
            self._warned_run = True
            left = _span(self._began + self._limits.run - now)
            return Warning(f"the run timeout of {_span(self._limits.run)} ends this phase in {left}")
        if not self._warned_log and (at := self._log_warning()) is not None and now >= at:
            self._warned_log = True
            left = _span(self._last_output + self._limits.log - now)
            return Warning(f"no output for {_span(self.quiet_for(now))}: the log timeout ends this phase in {left}")
        return None

    def next_at(self) -> float:
        """When `check` next has something, if the phase stays silent."""
        moments = [self._began + self._limits.run, self._last_output + self._limits.log]
        if not self._warned_run and (at := self._run_warning()) is not None:
            moments.append(at)
        if not self._warned_log and (at := self._log_warning()) is not None:
            moments.append(at)
        return min(moments)

    def _run_warning(self) -> float | None:
        return self._warning(self._began, self._limits.run)

    def _log_warning(self) -> float | None:
        return self._warning(self._last_output, self._limits.log)

    def _warning(self, since: float, limit: float) -> float | None:
        return since + limit - self._limits.warning if limit > self._limits.warning else None


def _span(seconds: float) -> str:
    return format_duration(timedelta(seconds=round(seconds) if seconds >= 10 else round(seconds, 1)))
