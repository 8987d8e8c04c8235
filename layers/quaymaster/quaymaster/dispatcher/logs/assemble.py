"""The log of an attempt whose worker can no longer write it: its chunks, joined, and a last line that says why it ends.

Streaming and bounded, in what is written and in what it unpacks to: chunks are gzip members, and gzip members may
simply be joined. A chunk that cannot be read is left out and the last line says so. Only the sweep has the time for it.
"""

import gzip
import hashlib
import json
import tempfile
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from typing import IO

from quaymaster.dispatcher.logs.gzip_member import PIECE, GzipMember
from quaymaster.domain.messages import LogDigest, LogEnd, Outcome
from quaymaster.domain.phases import PERFORM
from quaymaster.domain.pool import PoolSettings
from quaymaster.domain.run import Run, read_history, touched
from quaymaster.domain.states import HELD, Reason, RunState
from quaymaster.errors import Lost, Unavailable
from quaymaster.ports import Ports, Replace

MOST_BYTES = 256 << 20
"""The most compressed bytes of a log that is put together; the function's own disk is 512 MB."""
SLACK_BYTES = 16 << 20
"""What a log may hold beyond its cap, which counts the output only: the agent's own lines."""


def assemble(ports: Ports, settings: PoolSettings, run: Run) -> None:
    """Write the final logs that a run which nobody holds still lacks, then take it off the due list.

    Safe to repeat. The caller has moved its deadline first: a log that takes too long, or a bucket that does not
    answer, must not be what every sweep begins with.
    """
    try:
        if run.began_before:
            assemble_earlier(ports, settings, run)
        # One that no worker ever had has no log, and is here for its reply.
        has_log = run.is_at_rest and run.attempt > 0
        digest = _close_log(ports, settings, run, run.attempt, _outcome(run)) if has_log else None
        # A reply that could not be sent is still owed.
        due_at, push = (run.due_at, run.push) if run.is_final and run.owes_reply else (run.confirm_by, None)
        ports.store.commit(Replace(touched(run, due_at=due_at, push=push, log=digest or run.log)))
    except Unavailable as error:
        ports.log("log_not_assembled", {"run": run.id, "note": str(error)[:120]})
    except Lost:
        ports.log("event_ignored", {"run": run.id, "note": "changed while its log was assembled"})


def assemble_earlier(ports: Ports, settings: PoolSettings, run: Run) -> None:
    """Write the final logs of lost attempts that said something. Raises Unavailable."""
    over = run.attempt if run.state is RunState.READY else run.attempt - 1
    for attempt in range(1, over + 1):
        if ports.blobs.newest_chunk(run.pool_id, run.id, attempt, None):
            note = _why_lost(run, over - attempt)
            outcome = Outcome(end="FAILED", reason=Reason.WORKER_LOST, note=note)
            _close_log(ports, settings, run, attempt, outcome)


def _outcome(run: Run) -> Outcome:
    end = run.state.value if run.state in (RunState.FINISHED, RunState.STOPPED) else "FAILED"
    if run.state is RunState.UNCONFIRMED:
        end = "FINISHED"
    return Outcome.model_validate({"end": end, "reason": run.reason, "exit_code": run.exit_code, "note": run.note})


def _why_lost(run: Run, later: int) -> str | None:
    """What the history says of the end of the lost attempt that so many lost ones came after."""
    lost = [
        change.note
        for before, change in pairwise(read_history(run))
        if change.state is RunState.READY and before.state in HELD
    ]
    return lost[-1 - later] if later < len(lost) else None


def _close_log(ports: Ports, settings: PoolSettings, run: Run, attempt: int, outcome: Outcome) -> LogDigest | None:
    """The digest of the attempt's final log, which is written of its chunks if it is not there. Raises Unavailable."""
    end = ports.blobs.log_end(run.pool_id, run.id, attempt)
    if end:
        return end.digest
    with tempfile.TemporaryFile() as body:
        joined = _Joined(body, settings.log_cap_bytes + SLACK_BYTES)
        for chunk in ports.blobs.chunks(run.pool_id, run.id, attempt):
            joined.append(ports, chunk.key, chunk.size)
        digest = joined.close(_last_line(outcome, joined.left_out, run.ended_at or ports.clock()))
        marker = LogEnd(run=run.id, attempt=attempt, digest=digest, outcome=outcome)
        if ports.blobs.write_log(run.pool_id, run.id, attempt, body, marker):
            note = {"run": run.id, "attempt": attempt, "lines": digest.lines, "left_out": joined.left_out}
            ports.log("log_assembled", {**note})
            return digest
    written = ports.blobs.log_end(run.pool_id, run.id, attempt)
    return written.digest if written else None


class _Joined:
    """A log that is being put together. `room` is how much all that is read may unpack to, the left out included."""

    def __init__(self, body: IO[bytes], room: int) -> None:
        self.left_out = 0
        self._body = body
        self._room = room
        self._lines = self._bytes = 0

    def append(self, ports: Ports, key: str, size: int) -> None:
        """Add a chunk, or count it as left out."""
        start = self._body.tell()
        if self._room > 0 and start + size <= MOST_BYTES and self._copy(ports, key):
            return
        self._body.seek(start)
        self._body.truncate()
        self.left_out += 1

    def _copy(self, ports: Ports, key: str) -> bool:
        source = ports.blobs.read(key)
        if source is None:
            return False
        member = GzipMember(self._room)
        with closing(source):
            sound = member.copy(source, self._body)
        self._room -= member.size
        if sound:
            self._lines += member.lines
            self._bytes += member.size
        return sound

    def close(self, last: bytes) -> LogDigest:
        """Add the last line; the body stands at its beginning again."""
        self._body.write(gzip.compress(last))
        self._body.seek(0)
        sha256 = hashlib.sha256()
        while piece := self._body.read(PIECE):
            sha256.update(piece)
        self._body.seek(0)
        lines, size = self._lines + 1, self._bytes + len(last)
        return LogDigest(lines=lines, bytes=size, sha256=sha256.hexdigest(), complete=False)


def _last_line(outcome: Outcome, left_out: int, at: datetime) -> bytes:
    how = str(outcome.reason or outcome.end)
    why = f"{how}: {outcome.note}" if outcome.note else how
    missing = f"; {left_out} chunks could not be read or were too large" if left_out else ""
    message = f"this log is incomplete, its worker did not close it ({why}){missing}"
    line = {"ts": at.isoformat(timespec="milliseconds"), "phase": PERFORM, "stream": "agent", "msg": message}
    return json.dumps(line).encode() + b"\n"
