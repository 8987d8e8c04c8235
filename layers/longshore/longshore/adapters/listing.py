"""Positions in the index `listing`, and the cursors that callers get to see of them."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from longshore.domain.keys import milliseconds
from longshore.domain.run import Run
from longshore.errors import Refused

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
    try:
        found = urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode()
    except ValueError:
        found = ""
    if not _POSITION.fullmatch(found) or cursor(found) != word:
        raise Refused("cursor", word[:80], "the cursor of an earlier page")
    return found


def run_of(at: str) -> str:
    """The id of the run at a position."""
    return at.partition("#")[2]
