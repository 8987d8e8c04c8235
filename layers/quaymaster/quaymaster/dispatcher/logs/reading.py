"""What lies in the bucket of a run's log, for those who read or follow it."""

from datetime import datetime, timedelta

from quaymaster.domain import deadlines, ids, objects
from quaymaster.domain.api import LogPiece, LogView, Upload
from quaymaster.domain.messages import LogEnd, Watch
from quaymaster.domain.pool import Pool
from quaymaster.domain.run import Run
from quaymaster.domain.states import RunState
from quaymaster.domain.workspace_rules import Bounds
from quaymaster.errors import Refused, Unavailable
from quaymaster.ports import Chunk, Ports
from quaymaster.telling import describe

LINK_LIFE = timedelta(minutes=15)
"""Long enough to fetch a page of chunks; what a link allows is read access to one object."""
UPLOAD_LIFE = timedelta(minutes=30)
CHUNKS_SHOWN = 200
MARKER_GRACE = deadlines.LATE_UPLOAD + 2 * deadlines.SWEEP
"""How long after a run's end its log may still be put together, if the run says that it will be."""
WATCH = timedelta(seconds=30)


def show_log(ports: Ports, run: Run, after: str | None = None, attempt: int | None = None) -> LogView:
    """The log of an attempt (the latest when none is named), from behind the chunk `after` on.

    A cursor of an earlier attempt is honoured until that attempt's chunks are read, then the latest attempt follows.
    Raises Refused for a cursor or an attempt that is not this run's.
    """
    seen = _attempt_of(run, after) if after else None
    wanted = attempt or seen or run.attempt
    if not 0 <= wanted <= run.attempt:
        raise Refused("attempt", wanted, f"at most {run.attempt}, the latest attempt of run {run.id}")
    if not wanted:
        return LogView(run=run.id, state=run.state, attempt=0, ended=run.is_final, note=_never_began(run))
    chunks = ports.blobs.chunks(run.pool_id, run.id, wanted, after)
    if attempt is None and wanted < run.attempt and not chunks:
        wanted, after = run.attempt, None
        chunks = ports.blobs.chunks(run.pool_id, run.id, wanted)
    shown = chunks[:CHUNKS_SHOWN]
    end = None if wanted == run.attempt and not run.is_at_rest else ports.blobs.log_end(run.pool_id, run.id, wanted)
    latest = attempt or run.attempt
    ended = wanted == latest and len(shown) == len(chunks) and _is_over(run, wanted, end, ports.clock())
    return LogView(
        run=run.id,
        state=run.state,
        attempt=wanted,
        begun=run.begun_at is not None,
        ended=ended,
        complete=end.digest.complete if end else False if ended else None,
        note=_incomplete(run, end) if ended else None,
        lines=end.digest.lines if end else None,
        final=_final(ports, run, wanted) if end else None,
        chunks=[_piece(ports, chunk) for chunk in shown],
        cursor=shown[-1].key if shown else after,
    )


def _attempt_of(run: Run, cursor: str) -> int:
    prefix = f"chunks/{run.pool_id}/{run.id}/"
    number, _, name = cursor.removeprefix(prefix).partition("/")
    if not cursor.startswith(prefix) or not number.isdecimal() or not name:
        raise Refused("after", describe(cursor), f"a cursor of run {run.id}'s log")
    return int(number)


def _is_over(run: Run, attempt: int, end: LogEnd | None, now: datetime) -> bool:
    if end:
        return True
    if attempt < run.attempt:
        return True
    if not run.is_at_rest:
        return False
    if run.state is RunState.UNCONFIRMED:
        return run.due_at == run.confirm_by
    # Whoever ended the run has set when its log is put together, if it ever is.
    return run.due_at is None or now >= (run.ended_at or now) + MARKER_GRACE


def _incomplete(run: Run, end: LogEnd | None) -> str | None:
    if end:
        return None if end.digest.complete else end.outcome.note or "the log ends before the run did"
    if run.begun_at or run.log:
        return "no end marker was written; what had arrived is shown"
    return _never_began(run)


def _never_began(run: Run) -> str | None:
    return "the command never began" if run.is_final and not run.begun_at else None


def _final(ports: Ports, run: Run, attempt: int) -> LogPiece:
    key = objects.log_key(run.pool_id, run.id, attempt)
    return LogPiece(key=key, url=ports.blobs.download_url(key, LINK_LIFE))


def _piece(ports: Ports, chunk: Chunk) -> LogPiece:
    return LogPiece(key=chunk.key, url=ports.blobs.download_url(chunk.key, LINK_LIFE), size=chunk.size, at=chunk.at)


def watch_log(ports: Ports, run: Run) -> None:
    """Have the worker ship a chunk every second for a while. Best effort: the log comes anyway, only later."""
    if run.state is not RunState.RUNNING or not run.worker:
        return
    message = Watch(session=run.session, run=run.id, attempt=run.attempt, for_seconds=WATCH.total_seconds())
    try:
        ports.messenger.send(run.pool_id, run.worker, message, expires=WATCH)
    except Unavailable as error:
        ports.log("watch_not_sent", {"run": run.id, "error": str(error)})


def prepare_upload(ports: Ports, pool: Pool) -> Upload:
    """Where to put one packed workspace for runs of a pool."""
    key = objects.workspace_key(pool.id, ids.ulid(ports.clock(), ports.random(10)))
    return Upload(key=key, url=ports.blobs.upload_url(key, UPLOAD_LIFE), max_bytes=Bounds().packed_bytes)
