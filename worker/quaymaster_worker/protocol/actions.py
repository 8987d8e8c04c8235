"""What the worker's state machine asks of the world around it: values, carried out by `agent.py`."""

from dataclasses import dataclass

from quaymaster.domain.messages import Assign, FromAgent, Grants
from quaymaster.domain.states import Reason


@dataclass(frozen=True)
class Publish:
    """Send a message; nobody waits for its delivery, because what matters is repeated."""

    message: FromAgent


@dataclass(frozen=True)
class Prepare:
    """Make everything ready for an attempt, then call `prepared` or `preparation_failed`."""

    assign: Assign


@dataclass(frozen=True)
class Abandon:
    """Drop what was prepared, or is being prepared."""

    run: str
    attempt: int


@dataclass(frozen=True)
class Begin:
    """Begin the phase of the prepared attempt; call `phase_ended`, ship the log, then call `report`."""

    assign: Assign


@dataclass(frozen=True)
class GoOn:
    """Begin the next phase of the attempt that runs."""

    log_timeout_seconds: float
    run_timeout_seconds: float


@dataclass(frozen=True)
class EndPhase:
    """End the running phase: SIGTERM, grace, SIGKILL of the whole tree; without grace, SIGKILL at once."""

    reason: Reason
    note: str
    grace_seconds: float


@dataclass(frozen=True)
class SetTimeouts:
    """The phase has new timeouts, whether it runs already or not; the note, if there is one, belongs in its log."""

    log_timeout_seconds: float
    run_timeout_seconds: float
    note: str = ""


@dataclass(frozen=True)
class UseGrants:
    """Upload with these from now on."""

    grants: Grants


@dataclass(frozen=True)
class AskGrants:
    """Send `renew`, filled with how long the phase has been silent."""

    run: str
    attempt: int
    failing: bool


@dataclass(frozen=True)
class TellOutput:
    """Say with `renew` when the phase last wrote something, if it has since then: no chunk tells of it."""

    run: str
    attempt: int
    since: float
    failing: bool


@dataclass(frozen=True)
class Follow:
    """Ship the log every second for so long."""

    seconds: float


@dataclass(frozen=True)
class Leave:
    """This worker has ended; nothing more is to be done for it."""

    exit_code: int


Action = (
    Publish
    | Prepare
    | Abandon
    | Begin
    | GoOn
    | EndPhase
    | SetTimeouts
    | UseGrants
    | AskGrants
    | TellOutput
    | Follow
    | Leave
)
