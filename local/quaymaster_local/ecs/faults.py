"""Faults that a test may order from the ECS endpoint: what AWS does now and then, done on demand.

Those of `FaultKind` meet the next RunTask; `TAKE_BACK` meets a task that runs, at once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

TAKE_BACK = "take_back"
"""The Spot capacity of `task` is wanted back."""


class FaultKind(StrEnum):
    """What goes wrong with the next RunTask."""

    REFUSE = "refuse"
    """Answered with an error: `code` and `message`."""
    FAIL = "fail"
    """Answered with one `failures[]` entry per task: `message` is its reason."""
    NEVER_START = "never_start"
    """Accepted, then STOPPED as TaskFailedToStart with no containers: `message` is the stopped reason."""
    LOSE_ANSWER = "lose_answer"
    """The tasks start, and the caller gets a 500 instead of their ARNs."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, for one RunTask."""

    kind: FaultKind
    code: str = "ClientException"
    message: str = ""


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
        )
        with self._lock:
            self._waiting += [fault] * int(document.get("count", 1))

    def take(self) -> Fault | None:
        """The fault for the RunTask at hand."""
        with self._lock:
            return self._waiting.pop(0) if self._waiting else None
