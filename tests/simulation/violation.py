"""What must always hold, each with the name it is reported by; the numbers are those of the design's invariants."""

from enum import StrEnum


class Invariant(StrEnum):
    """The name of something that must hold after every step, at every write, or at the end."""

    ONE_HOLDER = "1 a run has one holder, a worker one run, and both sides say so"
    BEGINS_ONCE = "1 an attempt begins at most once"
    ONE_ATTEMPT_BEGINS = "1 at most one attempt of a run begins"
    GO_BY_THE_TABLE = "1 go is said only of what the table says has begun"
    CONFIRMED = "1 a phase begins after the ones before it, and after what it needs was confirmed"
    NOT_LOST = "2 an accepted request is never lost"
    TICKET_IF_READY = "2 a ticket lies there exactly while its run is READY"
    WRITTEN_BEFORE_TOLD = "2 nothing is told that is not written"
    FENCE = "3 what another attempt or session says changes nothing"
    ATTEMPT_BY_CLAIM = "3 the attempt rises by one in a claim, and nowhere else"
    NEWEST_SESSION = "3 a worker's session never goes back"
    MARKER_IF_IDLE = "4 a marker lies there exactly while its worker is IDLE"
    BUSY_UNTIL_LET_GO = "4 a BUSY worker is IDLE again only once it has let go"
    NO_LOST_WAKE_UP = "4 no run waits beside an idle worker although nobody is about to look"
    HEALED_BY_SWEEP = "4 no run waits beside an idle worker after a sweep"
    ITS_OWN_TASK = "4 a bound run and the task that is started for it are for each other alone"
    OFFERED_AGAIN = "4 a worker that is there is offered work again"
    DEADLINE = "5 whoever needs somebody's action has a deadline"
    IN_TIME = "5 what is due has been looked at within a sweep"
    ALL_ENDS = "5 everything ends"
    NO_END_WHILE_IT_ACTS = "5 a run is not ended while its command acts"
    RESERVED = "6 each reserved place is counted once"
    REPLIED = "2 whoever asked to be told how a run ended is told"
    WITHIN_LIMIT = "6 no more tasks than places"
    FINAL = "7 what is final stays as it is"
    ALLOWED = "7 a run goes only where the table of states lets it"
    ENDED_WELL = "7 what ended well is never recorded as lost"
    END_MARKER = "7 an end marker is believed"
    HANDLED = "every failure of a handler is one that it foresees"


class Violation(AssertionError):
    """An invariant does not hold; `invariant` says which."""

    def __init__(self, invariant: Invariant, what: str) -> None:
        super().__init__(f"[{invariant}] {what}")
        self.invariant = invariant


def must(invariant: Invariant, holds: object, what: str = "") -> None:
    """Raises Violation unless it holds."""
    if not holds:
        raise Violation(invariant, what)
