"""What ECS's words about a stopped task mean. Its `stoppedReason` has no code: the text alone tells what will pass."""

from dataclasses import dataclass

from quaymaster.domain.states import Reason
from quaymaster.domain.trouble import StartFailure, TroubleKind

LATE = "quaymaster: no worker came of it"
"""The reason that a task is stopped with when it runs, but has not become a worker in time."""

_PASSING = (
    "i/o timeout",
    "eof",
    "connection reset",
    "connection refused",
    "tls handshake timeout",
    "deadline exceeded",
    "timeout waiting for network interface",
    "timed out",
    "request canceled",
    "toomanyrequests",
    "too many requests",
    "rate exceeded",
    "throttl",
    "service unavailable",
    "internal server error",
    "insufficientfreeaddressesinsubnet",
    "host is unreachable",
)
_CAPACITY = ("capacity is unavailable", "capacity unavailable", "insufficient capacity")
_PERMANENT = (
    "cannotcreatecontainer",
    "cannotstartcontainer",
    "cannotinspectcontainer",
    "resourceinitializationerror",
    "exec format error",
    "accessdenied",
    "not authorized",
    "unable to assume",
    LATE,
)


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the event of a stopped task says; a task that never started has no container, and so no reason of one."""

    stop_code: str = ""
    stopped_reason: str = ""
    container_reason: str = ""

    @property
    def note(self) -> str:
        """The most telling of them, for people."""
        return (self.container_reason or self.stopped_reason or self.stop_code or "its task stopped")[:200]


def judge_start(words: Words) -> StartFailure:
    """Why a task never became a worker.

    What ECS says nothing known of is taken to pass when the task failed to start (one in a hundred does, for nothing
    that anybody could change), and to stay when its container ran and ended: the next one would end the same way.
    """
    text = f"{words.stopped_reason} {words.container_reason}".lower()
    kind, reason = _judge(text, words.stop_code)
    return StartFailure(kind=kind, reason=reason, note=words.note)


def _judge(text: str, stop_code: str) -> tuple[TroubleKind, Reason]:
    if stop_code in ("SpotInterruption", "TerminationNotice") or _any(text, _CAPACITY):
        return TroubleKind.CAPACITY, Reason.NO_CAPACITY
    if "outofmemory" in text:
        return TroubleKind.PERMANENT, Reason.OUT_OF_MEMORY
    if "cannotpull" in text or "pull image" in text:
        passing = _any(text, _PASSING)
        return TroubleKind.PASSING if passing else TroubleKind.PERMANENT, Reason.IMAGE_PULL
    if _any(text, _PASSING):
        return TroubleKind.PASSING, Reason.START_FAILED
    if _any(text, _PERMANENT) or stop_code == "EssentialContainerExited":
        return TroubleKind.PERMANENT, Reason.START_FAILED
    return TroubleKind.PASSING, Reason.START_FAILED


def _any(text: str, marks: tuple[str, ...]) -> bool:
    return any(mark.lower() in text for mark in marks)
