"""The states of a run, the reasons it may end with, and the one table of what may follow what.

`docs/states.md` is written from this table, and a test keeps the two the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "QUEUED"
    READY = "READY"
    PREPARING = "PREPARING"
    RUNNING = "RUNNING"
    UNCONFIRMED = "UNCONFIRMED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    CANCELED = "CANCELED"
    DISCARDED = "DISCARDED"
    SKIPPED = "SKIPPED"


class Reason(StrEnum):
    """Why a run ended as it did, for programs; the note beside it is for people."""

    EXIT_CODE = "exit_code"
    LOG_TIMEOUT = "log_timeout"
    RUN_TIMEOUT = "run_timeout"
    PREPARE_TIMEOUT = "prepare_timeout"
    WORKER_LOST = "worker_lost"
    OUT_OF_MEMORY = "out_of_memory"
    SPOT_INTERRUPTED = "spot_interrupted"
    INTERRUPTED = "interrupted"
    CYCLED = "cycled"
    KILLED = "killed"
    IMAGE_PULL = "image_pull"
    POLICY_DENIED = "policy_denied"
    WORKSPACE = "workspace"
    START_FAILED = "start_failed"
    HOOK_FAILED = "hook_failed"
    CONFIRMATION_EXPIRED = "confirmation_expired"
    NO_CAPACITY = "no_capacity"
    QUEUE_EXPIRED = "queue_expired"
    NO_WORKER_ANSWERED = "no_worker_answered"
    BY_USER = "by_user"


FINAL = frozenset(
    {
        RunState.FINISHED,
        RunState.FAILED,
        RunState.STOPPED,
        RunState.CANCELED,
        RunState.DISCARDED,
        RunState.SKIPPED,
    }
)
HELD = frozenset({RunState.PREPARING, RunState.RUNNING})
"""The states in which a worker holds the run."""

BY_THE_WORKER = frozenset({Reason.WORKER_LOST, Reason.INTERRUPTED, Reason.SPOT_INTERRUPTED, Reason.CYCLED})
"""Ends of a phase that are its worker's going and nothing of the run's own: a retryable run comes again after these."""


@dataclass(frozen=True)
class Transition:
    """One arrow of the state diagram; `source` is None for a submission."""

    source: RunState | None
    target: RunState
    when: str
    reasons: frozenset[Reason] = frozenset()


S, R = RunState, Reason
TRANSITIONS: tuple[Transition, ...] = (
    Transition(None, S.QUEUED, "blocked by a lock, a dependency or a slot"),
    Transition(None, S.READY, "no idle worker"),
    Transition(None, S.PREPARING, "an idle worker at once"),
    Transition(None, S.SKIPPED, "drift over the limit"),
    Transition(S.QUEUED, S.READY, "unblocked"),
    Transition(S.QUEUED, S.CANCELED, "by a user", frozenset({R.BY_USER})),
    Transition(S.QUEUED, S.FAILED, "cannot be unblocked", frozenset({R.QUEUE_EXPIRED})),
    Transition(S.READY, S.PREPARING, "assigned to a worker; the attempt rises by one"),
    Transition(S.READY, S.CANCELED, "by a user", frozenset({R.BY_USER})),
    Transition(
        S.READY,
        S.FAILED,
        "no worker can take it",
        frozenset(
            {
                R.QUEUE_EXPIRED,
                R.NO_CAPACITY,
                R.START_FAILED,
                R.IMAGE_PULL,
                R.OUT_OF_MEMORY,
                R.NO_WORKER_ANSWERED,
                R.WORKER_LOST,
            }
        ),
    ),
    Transition(S.PREPARING, S.RUNNING, "`go`: from here on the run counts as begun"),
    Transition(S.PREPARING, S.READY, "not answered, handed back, or its worker lost before `go`"),
    Transition(S.PREPARING, S.CANCELED, "by a user", frozenset({R.BY_USER})),
    Transition(
        S.PREPARING,
        S.FAILED,
        "could not be prepared",
        frozenset(
            {
                R.IMAGE_PULL,
                R.POLICY_DENIED,
                R.WORKSPACE,
                R.START_FAILED,
                R.OUT_OF_MEMORY,
                R.PREPARE_TIMEOUT,
                R.NO_WORKER_ANSWERED,
                R.WORKER_LOST,
            }
        ),
    ),
    Transition(S.RUNNING, S.FINISHED, "exit code 0"),
    Transition(
        S.RUNNING,
        S.FAILED,
        "the command failed, went silent, overran, or lost its worker",
        frozenset(
            {
                R.EXIT_CODE,
                R.LOG_TIMEOUT,
                R.RUN_TIMEOUT,
                R.WORKER_LOST,
                R.OUT_OF_MEMORY,
                R.SPOT_INTERRUPTED,
                R.INTERRUPTED,
                R.CYCLED,
                R.KILLED,
                R.START_FAILED,
                R.HOOK_FAILED,
                R.WORKSPACE,
            }
        ),
    ),
    Transition(S.RUNNING, S.UNCONFIRMED, "exit code 0, and the next phase needs confirmation"),
    Transition(S.UNCONFIRMED, S.READY, "confirmed by a user; its place in the queue is that of its acceptance"),
    Transition(
        S.UNCONFIRMED,
        S.DISCARDED,
        "by a user, or nobody has confirmed it in time",
        frozenset({R.BY_USER, R.CONFIRMATION_EXPIRED}),
    ),
    Transition(S.RUNNING, S.STOPPED, "by a user", frozenset({R.BY_USER})),
    Transition(S.RUNNING, S.READY, "its worker lost, and the run is `retryable`: same run, next attempt"),
)

NEXT: Mapping[RunState | None, frozenset[RunState]] = {
    source: frozenset(t.target for t in TRANSITIONS if t.source == source) for source in (None, *RunState)
}


def allowed(source: RunState | None, target: RunState, reason: Reason | None) -> bool:
    """Whether the table has this arrow with this reason (an arrow without reasons takes none)."""
    return any(
        t.source == source and t.target == target and (reason in t.reasons if t.reasons else reason is None)
        for t in TRANSITIONS
    )
