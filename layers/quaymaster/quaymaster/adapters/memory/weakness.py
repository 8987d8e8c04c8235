"""What may go wrong at a table although it keeps its promises: what `MemoryStore` shows of it when asked to."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Protocol


class Trouble(StrEnum):
    """What happens to one commit. BUSY and FAILED change nothing; UNANSWERED is made, and says Unavailable."""

    BUSY = "busy"
    FAILED = "failed"
    UNANSWERED = "unanswered"


class Weakness(Protocol):
    """Asked once for each commit whose conditions hold, and once for each read of an index."""

    def trouble(self) -> Trouble | None: ...

    def lag(self) -> int:
        """How many of the latest commits the indexes have not seen yet."""
        ...


class NoWeakness:
    """The table on a good day."""

    def trouble(self) -> Trouble | None:
        return None

    def lag(self) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class SeededWeakness:
    """Trouble at these probabilities, and indexes up to `max_lag` commits behind; the same seed, the same trouble."""

    random: Random
    busy: float = 0.0
    failed: float = 0.0
    unanswered: float = 0.0
    max_lag: int = 0

    def trouble(self) -> Trouble | None:
        drawn = self.random.random()
        for trouble, probability in (
            (Trouble.BUSY, self.busy),
            (Trouble.FAILED, self.failed),
            (Trouble.UNANSWERED, self.unanswered),
        ):
            if drawn < probability:
                return trouble
            drawn -= probability
        return None

    def lag(self) -> int:
        return self.random.randint(0, self.max_lag)
