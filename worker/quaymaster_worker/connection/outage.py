"""Telling of a broker that cannot be reached: when it begins, once a minute, and when it is over."""

import logging
from collections.abc import Callable

REPEAT_SECONDS = 60.0

log = logging.getLogger("quaymaster.connection")


class Outage:
    """The attempts since the last connection."""

    def __init__(self, client_id: str, clock: Callable[[], float]) -> None:
        self._worker = client_id
        self._clock = clock
        self._since: float | None = None
        self._said_at = 0.0
        self._attempts = 0

    def failed(self, error: str, host: str) -> None:
        """One more attempt came to nothing."""
        now = self._clock()
        self._attempts += 1
        if self._since is None:
            self._since = now
        elif now - self._said_at < REPEAT_SECONDS:
            return
        self._said_at = now
        about = {"worker": self._worker, "error": error, "host": host}
        log.warning(
            "cannot connect; trying again",
            extra={**about, "attempts": self._attempts, "seconds": round(now - self._since)},
        )

    def over(self) -> None:
        """Connected."""
        if self._since is not None:
            seconds = round(self._clock() - self._since)
            log.info("connected again", extra={"worker": self._worker, "attempts": self._attempts, "seconds": seconds})
        self._since, self._attempts = None, 0
