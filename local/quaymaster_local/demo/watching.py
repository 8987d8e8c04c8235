"""Keeps the board true: states, workers and logs, read through the API again and again."""

import asyncio
import time

from quaymaster.domain.api import LogView
from quaymaster.domain.states import RunState

from quaymaster_local.demo.api import DemoApi
from quaymaster_local.demo.board import Board, Row

LOOK_SECONDS = 0.4
LOG_SECONDS = 0.5
WATCH_SECONDS = 20.0
"""How often a worker is asked to ship its log every second; each asking holds for longer than this."""
_WAITING = frozenset({RunState.QUEUED, RunState.READY})


async def watch_states(api: DemoApi, board: Board) -> None:
    """Read pools, workers and runs, for ever."""
    turn = 0
    while True:
        pools = await api.pools()
        workers = await asyncio.gather(*(api.workers(pool.id) for pool in pools))
        runs = await asyncio.gather(*(api.runs(pool.id) for pool in pools))
        board.pools = pools
        board.workers = {worker.id: worker for found in workers for worker in found}
        seen = {run.run: run for found in runs for run in found}
        for row in board.rows:
            if row.run_id in seen:
                board.saw(row, seen[row.run_id])
        await _explain(api, board, turn)
        turn += 1
        await asyncio.sleep(LOOK_SECONDS)


async def _explain(api: DemoApi, board: Board, turn: int) -> None:
    """Ask why of one waiting run at a time: the answer is for people, who read one at a time too."""
    waiting = [row for row in board.rows if row.seen and row.seen.state in _WAITING]
    if waiting:
        row = waiting[turn % len(waiting)]
        row.why = await api.why(row.run_id)


async def follow_log(api: DemoApi, board: Board, row: Row) -> None:
    """Put a run's log on the board as it grows, until it is whole."""
    cursor: str | None = None
    watched = float("-inf")
    while True:
        watch = time.monotonic() - watched > WATCH_SECONDS
        watched = time.monotonic() if watch else watched
        view = await api.log(row.run_id, cursor, watch=watch)
        for piece in view.chunks:
            _put(board, row, await api.read(piece))
        cursor = view.cursor
        if view.ended:
            await _read_rest(api, board, row, view)
            return
        await asyncio.sleep(LOG_SECONDS)


async def _read_rest(api: DemoApi, board: Board, row: Row, view: LogView) -> None:
    """The lines that the final log has and the chunks had not."""
    if view.final and len(row.log) < (view.lines or 0):
        lines = await api.read(view.final)
        _put(board, row, lines[len(row.log) :])


def _put(board: Board, row: Row, lines: list[dict[str, str]]) -> None:
    for line in lines:
        board.logged(row, line["msg"], agent=line["stream"] == "agent")
