"""Positions in lists, and the cursors that callers get to see of them."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

from quaymaster.domain.keys import milliseconds
from quaymaster.domain.run import Run
from quaymaster.domain.worker import Worker
from quaymaster.errors import Refused
from quaymaster.ports import WorkerPage

LAST_WORKER = "worker#~"
"""Sorts behind every worker of a partition."""
BEHIND_ALL = "~"
"""Sorts behind every position."""

_POSITION = re.compile(r"[0-9]{13}#[\x21-\x7e]{1,64}")


def partition(pool_id: str) -> str:
    """Where the runs of a pool are listed."""
    return f"runs#{pool_id}"


def position(run: Run) -> str:
    """Where a run stands in the list of its pool: sorts by acceptance, and never changes."""
    return f"{milliseconds(run.accepted_at):013}#{run.id}"


def cursor(at: str) -> str:
    """A position as an opaque word that fits into a URL."""
    return urlsafe_b64encode(at.encode()).decode().rstrip("=")


def read_cursor(word: str) -> str:
    """The position in a cursor. Raises Refused for anything that `cursor` does not make.

    A forged cursor leads to another place in the same list and nowhere else: the partition comes from the caller.
    """
    return _read(word, _POSITION)


def _read(word: str, pattern: re.Pattern[str]) -> str:
    try:
        found = urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode()
    except ValueError:
        found = ""
    if not pattern.fullmatch(found) or cursor(found) != word:
        raise Refused("cursor", word[:80], "the cursor of an earlier page")
    return found


def run_of(at: str) -> str:
    """The id of the run at a position."""
    return at.partition("#")[2]


_WORKER = re.compile(r"[\x21-\x7e]{1,128}")


def behind_worker(worker_id: str) -> str:
    """The sort key behind that of a worker; of no worker, the one before all."""
    return f"worker#{worker_id}!" if worker_id else "worker#"


def page_of_workers(found: Sequence[Worker], limit: int) -> WorkerPage:
    """A page of what was found, which is one worker more than the page holds if there is another page."""
    shown = tuple(found[:limit])
    return WorkerPage(shown, cursor(shown[-1].id) if len(found) > limit else None)


def read_worker_cursor(word: str) -> str:
    """The worker that a cursor stands behind. Raises Refused for anything that `page_of_workers` does not make."""
    return _read(word, _WORKER)
