"""From a phase's bytes to chunks in the spool: masked, split into lines, capped, compressed and cut."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from quaymaster.domain.messages import LogDigest

from quaymaster_worker.log.chunks import ChunkPolicy, Compressor, Sum
from quaymaster_worker.log.lines import Echo, LineEncoder, LineSplitter, Mask, Stream
from quaymaster_worker.log.spool import Spool, WholeLog

IDLE_LINE = 0.3
"""Seconds of silence after which an unterminated line is shipped as it is: it may be a question to nobody."""
OLDEST_REST = 5.0
"""Seconds after its first byte at which it is shipped although it grows: dots of progress never end their line."""

log = logging.getLogger("quaymaster.log")


@dataclass(frozen=True, kw_only=True)
class LogTerms:
    """What a log is made with."""

    run: str
    attempt: int
    phase: str
    cap_bytes: int
    spool: Path
    echo: Echo | None = None


class LogWriter:
    """Writes one log into its spool, in bounded memory; `on_news` is told when there is something new to ship."""

    def __init__(
        self,
        terms: LogTerms,
        spool: Spool,
        *,
        mask: Mask,
        clock: Callable[[], float],
        largest_chunk: int,
        on_news: Callable[[], None],
    ) -> None:
        self._terms = terms
        self._phase = terms.phase
        self._spool = spool
        self._mask = mask
        self._clock = clock
        self._on_news = on_news
        self._splitter = LineSplitter()
        self._compressor = Compressor()
        self._policy = ChunkPolicy(clock(), largest_chunk)
        self._total = Sum()
        self._lines = 0
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._spooled = (self._total, self._lines)
        self._unspooled = 0
        self._complete = True
        self._dropped = 0
        self._last_bytes = self._rest_since = clock()
        self.is_open = True

    def output(self, data: bytes) -> None:
        """Bytes of the phase."""
        self._last_bytes = self._clock()
        had_rest = self._splitter.has_rest
        lines = self._splitter.feed(self._mask.feed(data))
        self._write("output", lines)
        if self._splitter.has_rest and (lines or not had_rest):
            self._rest_since = self._last_bytes
            # Somebody has to come back for it, even if no whole line ever follows.
            self._on_news()

    def say(self, text: str) -> None:
        """A line of the agent's own; whatever the phase left unterminated comes first."""
        self._write("output", self._splitter.flush())
        self._write("agent", [f"{self._mask.hide(text)}\n"])

    def enter(self, phase: str) -> None:
        """Lines from now on are of this phase; whatever the one before left unterminated was its own."""
        self._write("output", self._splitter.feed(self._mask.flush()) + self._splitter.flush(final=True))
        self._phase = phase

    def watch(self, seconds: float) -> None:
        """Cut every second for so long."""
        self._policy.watch(self._clock() + seconds)

    def end(self) -> tuple[LogDigest, WholeLog]:
        """Write what was held back, and nothing after it; says what the log has become."""
        self._write("output", self._splitter.feed(self._mask.flush()) + self._splitter.flush(final=True))
        self._cut()
        if self._dropped:
            # Also where the disk was full: it may have room for one line more, or have been given some.
            self.is_open = True
            self._write("agent", [f"{self._dropped} bytes of output are not in this log\n"])
            self._cut()
        self.is_open = False
        total, lines = self._spooled
        whole = self._spool.close_log(total)
        digest = LogDigest(
            lines=lines, bytes=total.size, sha256=whole.sha256, complete=self._complete, dropped=self._dropped
        )
        return digest, whole

    def due_at(self, now: float) -> float | None:
        """When `cut_if_due` has something to do; None while nothing lies there."""
        moments: list[float] = []
        if self._splitter.has_rest:
            moments.append(self._rest_due_at)
        if self._compressor.size:
            moments.append(self._policy.due_at(now))
        return min(moments, default=None)

    def cut_if_due(self, now: float) -> None:
        """Give up an unterminated line that has waited, and cut a chunk whose time has come."""
        if self._splitter.has_rest and now >= self._rest_due_at:
            self._write("output", self._splitter.flush())
        if self._compressor.size and now >= self._policy.due_at(now):
            self._cut()

    @property
    def _rest_due_at(self) -> float:
        return min(self._last_bytes + IDLE_LINE, self._rest_since + OLDEST_REST)

    def _write(self, stream: Stream, lines: list[str]) -> None:
        if not self.is_open and stream == "output":
            self._dropped += sum(map(_bytes_of, lines))
        if not lines or not self.is_open:
            return
        now = datetime.now(UTC)
        encoder = LineEncoder(now, self._phase, stream)
        for line in lines:
            if self._terms.echo:
                self._terms.echo(now, self._phase, stream, line)
            encoded = encoder.encode(line)
            if stream == "output" and self._complete and self._size + len(encoded) > self._terms.cap_bytes:
                self._complete = False
                why = f"the log is cut off here: it has reached its cap of {self._terms.cap_bytes} bytes\n"
                self._keep(LineEncoder(now, self._phase, "agent").encode(why))
            if self._complete or stream == "agent":
                self._keep(encoded, _bytes_of(line) if stream == "output" else 0)
            else:
                self._dropped += _bytes_of(line)
        self._compress()
        self._on_news()

    @property
    def _size(self) -> int:
        return self._total.size + self._batch_size

    def _keep(self, encoded: bytes, output: int = 0) -> None:
        """`output`: bytes of the phase's that the line stands for."""
        self._batch.append(encoded)
        self._unspooled += output
        self._batch_size += len(encoded)
        self._lines += 1
        if self._compressor.size + self._batch_size >= self._policy.limit:
            self._cut()

    def _compress(self) -> None:
        """Compress what was gathered: line by line it would cost several times as much."""
        data = b"".join(self._batch)
        self._batch, self._batch_size = [], 0
        self._compressor.add(data)
        self._total = self._total.add(data)

    def _cut(self) -> None:
        self._compress()
        if not self._compressor.size:
            return
        segment = self._compressor.cut()
        self._policy.was_cut(self._clock(), segment.sum.size)
        try:
            self._spool.append(segment)
        except OSError as error:
            # A full disk ends the log, not the phase; what is in the spool stays whole.
            log.error("the log ends here: the spool cannot be written", extra={"error": str(error)})
            self._complete = self.is_open = False
            self._dropped += self._unspooled
            self._unspooled = 0
            self._total, self._lines = self._spooled
            return
        self._spooled = (self._total, self._lines)
        self._unspooled = 0
        self._on_news()


def _bytes_of(line: str) -> int:
    return len(line.encode("utf-8", "replace"))
