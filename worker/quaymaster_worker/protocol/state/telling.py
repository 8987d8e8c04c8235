"""When the control plane is told of output that no chunk tells of.

The log is the heartbeat: a phase counts as silent when neither a chunk nor a word of its worker is newer than its log
timeout. Chunks stop although it writes where the log has reached its cap, or the disk is full; and they may be further
apart than a short log timeout.
"""

LONGEST = 60.0
"""Seconds: more often than a usual log timeout asks for, and less often than chunks come."""


class Telling:
    """At half the log timeout, or every minute; a chunk that is stored tells of the output before it was sent."""

    def __init__(self, log_timeout_seconds: float, now: float) -> None:
        self._told_at = now
        self._pause = _pause(log_timeout_seconds)

    @property
    def at(self) -> float:
        """When to tell."""
        return self._told_at + self._pause

    def told(self, at: float) -> None:
        """The control plane can know of the output until then."""
        self._told_at = max(self._told_at, at)

    def tell(self, now: float) -> float:
        """Note that it is told now; since when it was not."""
        since, self._told_at = self._told_at, now
        return since

    def extend(self, log_timeout_seconds: float) -> None:
        """The phase has another log timeout."""
        self._pause = _pause(log_timeout_seconds)


def _pause(log_timeout_seconds: float) -> float:
    return min(LONGEST, log_timeout_seconds / 2)
