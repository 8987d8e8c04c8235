"""What ECS's words about a stopped task mean: its `stoppedReason` has no code, and `failure_table` knows the texts."""

from dataclasses import dataclass

from quaymaster.domain.failure_table import STOPPED, Row, Said
from quaymaster.domain.trouble import SAID, StartFailure


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the event of a stopped task says; a task that never started has no container, and so no reason of one."""

    stop_code: str = ""
    stopped_reason: str = ""
    container_reason: str = ""
    exit_code: int | None = None

    @property
    def note(self) -> str:
        """The most telling of them, for people."""
        told = self.container_reason or self.stopped_reason or self.stop_code or "its task stopped"
        if self.stop_code == "EssentialContainerExited" and not self.container_reason and self.exit_code is not None:
            # Else ECS ended it, and the code says no more than that.
            told = f"{told} (exit code {self.exit_code})"
        return told[:SAID]


def judge_start(words: Words) -> StartFailure:
    """Why a task never became a worker."""
    row = row_of(words)
    return StartFailure(kind=row.kind, reason=row.reason, note=words.note)


def row_of(words: Words) -> Row:
    """The first row of the table that fits; the last one fits everything."""
    said = {
        Said.STOP_CODE: words.stop_code.lower(),
        Said.REASON: f"{words.stopped_reason} {words.container_reason}".lower(),
        Said.EXIT_CODE: "" if words.exit_code is None else str(words.exit_code),
    }
    return next(row for row in STOPPED if row.fits(said[row.said]))
