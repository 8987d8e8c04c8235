"""The log of an attempt whose worker can no longer write it: its chunks, joined, and a last line that says why it ends.

Streaming and bounded: chunks are gzip members, and gzip members may simply be joined. A chunk that cannot be read is
left out and the last line says so.
"""

import gzip
import hashlib
import json
import tempfile
import zlib
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import IO

from longshore.domain.messages import LogDigest, LogEnd, Outcome
from longshore.domain.run import Run, touched
from longshore.domain.states import RunState
from longshore.errors import Lost, Unavailable
from longshore.ports import Ports, Replace

MOST_BYTES = 256 << 20
"""The most compressed bytes of a log that is put together; the function's own disk is 512 MB."""
PIECE = 1 << 16


def assemble(ports: Ports, run: Run) -> None:
    """Write the run's final log if it has none yet, then take the run off the due list.

    Safe to repeat; when the bucket does not answer, the run stays due and the sweep tries again.
    """
    end = "STOPPED" if run.state is RunState.STOPPED else "FAILED"
    outcome = Outcome(end=end, reason=run.reason, exit_code=run.exit_code, note=run.note)
    try:
        digest = close_log(ports, run, outcome)
    except Unavailable as error:
        ports.log("log_not_assembled", {"run": run.id, "note": str(error)[:120]})
        return
    done = replace(touched(run), due_at=None, log=digest or run.log)
    try:
        ports.store.commit(Replace(done))
    except Lost:
        ports.log("event_ignored", {"run": run.id, "note": "changed while its log was assembled"})


def assemble_lost_attempt(ports: Ports, run: Run, outcome: Outcome) -> None:
    """Write the final log of an attempt that another follows. Tried once: no deadline stands for it."""
    try:
        close_log(ports, run, outcome)
    except Unavailable as error:
        ports.log("log_not_assembled", {"run": run.id, "attempt": run.attempt, "note": str(error)[:120]})


def close_log(ports: Ports, run: Run, outcome: Outcome) -> LogDigest | None:
    """The digest of the attempt's final log, which is written of its chunks if it is not there. Raises Unavailable."""
    end = ports.blobs.log_end(run.pool_id, run.id, run.attempt)
    if end:
        return end.digest
    with tempfile.TemporaryFile() as joined:
        left_out = _join(ports, run, joined)
        joined.write(gzip.compress(_last_line(outcome, left_out, run.ended_at or ports.clock())))
        digest = _digest(joined)
        marker = LogEnd(run=run.id, attempt=run.attempt, digest=digest, outcome=outcome)
        joined.seek(0)
        if ports.blobs.write_log(run.pool_id, run.id, run.attempt, joined, marker):
            ports.log("log_assembled", {"run": run.id, "lines": digest.lines, "left_out": left_out})
            return digest
    written = ports.blobs.log_end(run.pool_id, run.id, run.attempt)
    return written.digest if written else None


def _join(ports: Ports, run: Run, joined: IO[bytes]) -> int:
    """Append every readable chunk; how many were left out."""
    left_out = 0
    for chunk in ports.blobs.chunks(run.pool_id, run.id, run.attempt):
        start = joined.tell()
        if start + chunk.size > MOST_BYTES or not _append(ports, chunk.key, joined):
            joined.seek(start)
            joined.truncate()
            left_out += 1
    return left_out


def _append(ports: Ports, key: str, joined: IO[bytes]) -> bool:
    body = ports.blobs.read(key)
    if body is None:
        return False
    with closing(body):
        return _copy(body, joined)


def _copy(source: IO[bytes], target: IO[bytes]) -> bool:
    """Copy one gzip stream, checking it on the way."""
    check = zlib.decompressobj(wbits=31)
    try:
        while piece := source.read(PIECE):
            target.write(piece)
            check.decompress(piece, PIECE)
            while check.unconsumed_tail:
                check.decompress(check.unconsumed_tail, PIECE)
    except zlib.error:
        return False
    return check.eof and not check.unused_data


def _digest(joined: IO[bytes]) -> LogDigest:
    joined.seek(0)
    sha256 = hashlib.sha256()
    while piece := joined.read(PIECE):
        sha256.update(piece)
    joined.seek(0)
    lines = size = 0
    with gzip.GzipFile(fileobj=joined) as text:
        while piece := text.read(PIECE):
            size += len(piece)
            lines += piece.count(b"\n")
    return LogDigest(lines=lines, bytes=size, sha256=sha256.hexdigest(), complete=False)


def _last_line(outcome: Outcome, left_out: int, at: datetime) -> bytes:
    why = f"{outcome.reason}: {outcome.note}" if outcome.note else f"{outcome.reason}"
    missing = f"; {left_out} chunks could not be read" if left_out else ""
    message = f"this log is incomplete, its worker did not close it ({why}){missing}"
    line = {"ts": at.isoformat(timespec="milliseconds"), "phase": "perform", "stream": "agent", "msg": message}
    return json.dumps(line).encode() + b"\n"
