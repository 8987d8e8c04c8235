"""Whether each run ended as it should."""

import re
from dataclasses import dataclass

from quaymaster.domain.ids import worker_name
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.states import Reason, RunState

from quaymaster_local.demo.board import Board, Row

TASK = re.compile("[0-9a-f]{32}")
"""A task's id; an agent on a host names itself by a ULID."""
ATTEMPTS = 1
"""None of the demo's runs may begin twice."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a run, beside what should have; `wrong` says what differs."""

    row: Row
    ended: str
    expected: str
    wrong: tuple[str, ...]


def judge(board: Board) -> list[Verdict]:
    """A verdict on every run."""
    return [_judge(row, board) for row in board.rows]


def _judge(row: Row, board: Board) -> Verdict:
    expected = row.scene.expected
    wanted = _tell(expected.state, expected.reason, expected.exit_code)
    view = row.view
    if not view:
        state = row.seen.state if row.seen else "unknown to the API"
        return Verdict(row=row, ended=str(state), expected=wanted, wrong=(f"it has not ended: {state}",))
    ended = _tell(view.state, view.reason, view.exit_code)
    checks = {
        f"it ended as {ended}": ended == wanted,
        f"it took {view.attempt} attempts": view.attempt == ATTEMPTS,
        f"its log does not say {expected.says!r}": any(expected.says in line for line in row.log),
        "its log has no digest": view.digest is not None,
    }
    if row.scene.pool is PoolKind.FARGATE:
        # A worker that has done its run is in no list any more; its name is its task's id, or drawn by its agent.
        checks["no Fargate task ran it"] = TASK.fullmatch(worker_name(view.worker or "")) is not None
    return Verdict(
        row=row, ended=ended, expected=wanted, wrong=tuple(text for text, holds in checks.items() if not holds)
    )


def _tell(state: RunState, reason: Reason | None, exit_code: int | None) -> str:
    if reason is Reason.EXIT_CODE:
        return f"{state} exit code {exit_code}"
    return f"{state} {reason}" if reason else str(state)
