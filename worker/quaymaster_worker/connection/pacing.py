"""How long to wait before connecting again."""

from collections.abc import Callable

SHORTEST = 1.0
"""Seconds; IoT Core takes one CONNECT a second of a client id ("AWS IoT Core endpoints and quotas")."""
LONGEST = 30.0
SETTLED = 30.0
"""A connection that held for so many seconds makes the next wait a short one again."""


class Pace:
    """Waits that grow, each drawn anew so that agents which lost one broker do not come back as one.

    The next wait lies between the shortest and three times the last ("Exponential Backoff And Jitter", decorrelated).
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._last = SHORTEST

    def next_wait(self, connected_seconds: float) -> float:
        """Seconds to wait after a connection that held for so long; 0 when it never came about."""
        if connected_seconds >= SETTLED:
            self._last = SHORTEST
        self._last = min(LONGEST, self._uniform(SHORTEST, 3 * self._last))
        return self._last
