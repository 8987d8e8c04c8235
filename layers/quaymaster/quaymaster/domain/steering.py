"""What people do to a run, as pure functions from a run to a run; every other change is in `run`.

`by` is the person's name as the history shows it (`person`).
"""

import re
from datetime import datetime, timedelta

from quaymaster.domain.durations import format_duration
from quaymaster.domain.run import Ending, Run, Timeouts, ended, moved, noted
from quaymaster.domain.states import Reason, RunState

LONGEST_NAME = 48
UNKNOWN = "a user"
RETRY_OF = "retry-of-"
"""What the id of a request begins with that asks for a run once more; the id of that run follows."""
_NOT_IN_NAMES = re.compile(r"[^\w+=,.@-]", re.ASCII)


def person(arn: str) -> str:
    """The name in the ARN of whoever signed a request: a user's, a session's of a role, or `root`."""
    name = arn.rpartition("/")[2] if "/" in arn else arn.rpartition(":")[2]
    return _NOT_IN_NAMES.sub("", name)[:LONGEST_NAME] or UNKNOWN


def canceled(run: Run, at: datetime, by: str, note: str = "") -> Run:
    """Ended before it had begun."""
    return ended(run, RunState.CANCELED, Reason.BY_USER, at, by, note=note)


def stopping(run: Run, at: datetime, by: str, note: str, *, grace: timedelta | None, lost_after: timedelta) -> Run:
    """Its end is decided: its command gets SIGTERM and so much time, or is killed at once without any.

    It counts as running until its process is surely gone, at the latest `lost_after` from now.
    """
    said = _said("stop" if grace is not None else "kill", note)
    kill_at = at + grace if grace is not None else None
    by_then = at + lost_after
    ending = Ending(
        state=RunState.STOPPED, reason=Reason.BY_USER, by=by, deadline=by_then, kill_at=kill_at, note=note[:80]
    )
    return noted(run, at, by, said, ending=ending)


def confirmed(run: Run, at: datetime, by: str, note: str = "") -> Run:
    """READY again, for any worker of its pool: what needed confirmation has it."""
    return moved(
        run, RunState.READY, at, by, None, _said("confirm", note), confirm_by=None, confirmed_at=at, due_at=None
    )


def discarded(run: Run, at: datetime, by: str, note: str = "") -> Run:
    """Ended by somebody who does not want what follows."""
    return ended(run, RunState.DISCARDED, Reason.BY_USER, at, by, note=note)


def unwanted(run: Run, at: datetime) -> Run:
    """Ended because nobody has confirmed it in time."""
    note = "nobody has confirmed it in time"
    return ended(run, RunState.DISCARDED, Reason.CONFIRMATION_EXPIRED, at, "reaper", note=note)


def extended(run: Run, at: datetime, by: str, note: str, timeouts: Timeouts) -> Run:
    """With other timeouts, still counted from `go`."""
    said = _said("; ".join(extension(run, timeouts)), note)
    return noted(run, at, by, said, log_timeout=timeouts.log, run_timeout=timeouts.run)


def extension(run: Run, timeouts: Timeouts) -> list[str]:
    """Which timeouts become another one, each from what to what."""
    pairs = (("log timeout", run.log_timeout, timeouts.log), ("run timeout", run.run_timeout, timeouts.run))
    return [
        f"{name} {format_duration(old) if old else 'none'} to {format_duration(new)}"
        for name, old, new in pairs
        if old != new
    ]


def retried_from(request_id: str) -> str | None:
    """The run that a request asks for once more, by the request's id."""
    return request_id.removeprefix(RETRY_OF) if request_id.startswith(RETRY_OF) else None


def _said(what: str, note: str) -> str:
    return f"{what}: {note}" if note else what
