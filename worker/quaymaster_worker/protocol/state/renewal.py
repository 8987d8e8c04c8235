"""When an attempt's grants are asked for anew."""

FAILING_AFTER = 20.0
"""Seconds of failing uploads after which the control plane is told, and then again and again."""


class Renewal:
    """At half the grants' life, after a refusal at once, and while uploads fail; repeated until new ones come."""

    def __init__(self, life_seconds: float, now: float) -> None:
        self._at = now + life_seconds / 2
        self._failing_since: float | None = None
        self._asked = False

    @property
    def at(self) -> float:
        """When to ask."""
        return self._at

    def refused(self, now: float) -> None:
        """The store answered 403: the grants are over before their time."""
        if not self._asked:
            self._at = now

    def failing(self, since: float | None) -> None:
        """Uploads have failed since then; None: they work (again)."""
        if since is not None and self._failing_since is None:
            self._at = min(self._at, since + FAILING_AFTER)
        self._failing_since = since

    def is_failing(self, now: float) -> bool:
        """Whether uploads have failed for so long that it is told."""
        return self._failing_since is not None and now >= self._failing_since + FAILING_AFTER

    def granted(self, life_seconds: float, now: float) -> None:
        """New grants came."""
        self._asked = False
        self._at = now + life_seconds / 2
        if self._failing_since is not None:
            self._at = min(self._at, now + FAILING_AFTER)

    def ask(self, pause_seconds: float, now: float) -> bool:
        """Note that it is asked now; says whether to tell that uploads fail."""
        failing = self.is_failing(now)
        self._asked = True
        self._at = now + (FAILING_AFTER if failing else pause_seconds)
        return failing
