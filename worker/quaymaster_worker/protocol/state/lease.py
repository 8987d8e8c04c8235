"""How long a phase may run on a worker that reaches nobody."""


class Lease:
    """Counts from when broker or store was last certainly there; while connected it does not run out."""

    def __init__(self) -> None:
        self.connected = False
        self._reached_at: float | None = None

    def reached(self, at: float) -> None:
        """Broker or store was there."""
        self._reached_at = at if self._reached_at is None else max(self._reached_at, at)

    def ends_at(self, lease_seconds: float) -> float | None:
        """When it runs out, if nothing is reached until then."""
        if self.connected or self._reached_at is None:
            return None
        return self._reached_at + lease_seconds

    def spend(self) -> None:
        """It has run out; it begins anew once something is reached."""
        self._reached_at = None
