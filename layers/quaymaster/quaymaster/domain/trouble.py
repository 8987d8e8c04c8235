"""What stands against starting a pool's tasks: starts in a row that came to nothing, and when the next is due.

It lies with the pool's counters, so that it moves in the very transaction that counts the failure.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from quaymaster.domain.states import Reason

FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=15)
"""How long nothing is started after two failures in a row; twice as long after each further one, at most this long."""
FORGOTTEN = timedelta(hours=1)
"""A failure so long after the one before it begins a new row."""
SAID = 400
"""So many characters of AWS's words are kept: a refused permission names its action behind a long role and session."""
SURE = 3
"""So many failures in a row that will not pass by themselves are the pool's, and may end its runs."""


class TroubleKind(StrEnum):
    """Why a start came to nothing.

    `capacity`, `throttled` and `passing` go away by themselves, if after hours; `permanent` wants somebody to act.
    """

    CAPACITY = "capacity"
    THROTTLED = "throttled"
    PASSING = "passing"
    PERMANENT = "permanent"


@dataclass(frozen=True, kw_only=True)
class StartFailure:
    """One start that came to nothing: what kind it is, what a run would end with, and what ECS said."""

    kind: TroubleKind
    reason: Reason
    note: str


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """`times` starts in a row came to nothing, from `since` to `last_at`; the next one is tried at `retry_at`."""

    kind: TroubleKind
    reason: Reason
    note: str
    times: int
    since: datetime
    last_at: datetime
    retry_at: datetime

    @property
    def is_the_pools(self) -> bool:
        """Whether the pool itself is at fault, not chance."""
        return self.kind is TroubleKind.PERMANENT and self.times >= SURE

    def ends_runs_from(self, waits_since: datetime, limit: timedelta) -> datetime | None:
        """From when on a run that waits since then fails for it; None as long as it may pass."""
        return max(self.since, waits_since) + limit if self.is_the_pools else None


def after_failure(before: Trouble | None, failure: StartFailure, now: datetime, randomness: bytes) -> Trouble:
    """The trouble with one more failure. A failure of the other sort (permanent or not) begins a new row."""
    permanent = failure.kind is TroubleKind.PERMANENT
    same = before and (before.kind is TroubleKind.PERMANENT) is permanent and now - before.last_at < FORGOTTEN
    times, since = (before.times + 1, before.since) if before and same else (1, now)
    return Trouble(
        kind=failure.kind,
        reason=failure.reason,
        note=failure.note[:SAID],
        times=times,
        since=since,
        last_at=now,
        retry_at=now + pause(times, randomness),
    )


def pause(times: int, randomness: bytes) -> timedelta:
    """How long to wait after so many failures in a row.

    Nothing after the first; then from three quarters to all of a doubling span, so that pools part.
    """
    if times < 2:
        return timedelta()
    most = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(times - 2, 10))
    return most * (0.75 + 0.25 * int.from_bytes(randomness) / (256 ** len(randomness) - 1))
