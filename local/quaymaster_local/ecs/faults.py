"""Faults that a test may order from the ECS endpoint: what AWS does now and then, done on demand.

Those of `FaultKind` meet the next RunTask or the tasks that it starts; `TAKE_BACK` meets a task that runs, at once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

TAKE_BACK = "take_back"
"""The Spot capacity of `task` is wanted back."""


class FaultKind(StrEnum):
    """What goes wrong with the next RunTask, or with the tasks that it starts."""

    REFUSE = "refuse"
    """Answered with an error: `code` and `message` (throttling, a capacity error)."""
    FAIL = "fail"
    """Answered with one `failures[]` entry per task: `message` is its reason."""
    LOSE_ANSWER = "lose_answer"
    """The tasks start, and the caller gets a 500 instead of their ARNs."""
    HANG = "hang"
    """Nothing is answered, and nothing done, for `seconds`: the caller has mostly given up by then."""
    NEVER_START = "never_start"
    """Accepted, then STOPPED as TaskFailedToStart with no containers: `message` is the stopped reason."""
    PULL_FAILS = "pull_fails"
    """The same, with the container there and `message` as its reason: the other form that ECS gives a failed pull."""
    SLOW_START = "slow_start"
    """The tasks take `seconds` longer to start."""
    UNLISTED = "unlisted"
    """ListTasks does not know the tasks for `seconds`: what it answers lags behind."""
    EVENTS_TWICE = "events_twice"
    """Each event about the tasks is delivered twice."""
    EVENTS_LATE = "events_late"
    """Each event about the tasks is delivered `seconds` later, by then mostly out of order."""
    EVENTS_LOST = "events_lost"
    """No event tells of the tasks."""


OF_CALL = frozenset({FaultKind.REFUSE, FaultKind.FAIL, FaultKind.LOSE_ANSWER, FaultKind.HANG})
"""These are of the call; the others go with its tasks."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, for one RunTask."""

    kind: FaultKind
    code: str = "ClientException"
    message: str = ""
    seconds: float = 0

    @property
    def keeps_from_starting(self) -> bool:
        """Whether tasks with it never run."""
        return self.kind in (FaultKind.NEVER_START, FaultKind.PULL_FAILS)

    def span(self, kind: FaultKind) -> timedelta:
        """Its seconds, if it is of this kind."""
        return timedelta(seconds=self.seconds if self.kind is kind else 0)


class Faults:
    """The faults ordered and not yet met; each meets one RunTask, in the order in which they were ordered."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._lock = threading.Lock()

    def order(self, document: Mapping[str, Any]) -> None:
        """Order `count` times the fault that the document describes."""
        fault = Fault(
            kind=FaultKind(document["kind"]),
            code=document.get("code", Fault.code),
            message=document.get("message", Fault.message),
            seconds=float(document.get("seconds", Fault.seconds)),
        )
        with self._lock:
            self._waiting += [fault] * int(document.get("count", 1))

    def take(self) -> Fault | None:
        """The fault for the RunTask at hand."""
        with self._lock:
            return self._waiting.pop(0) if self._waiting else None
