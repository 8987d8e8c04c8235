"""One attempt's log, from the phase's bytes to objects in the store, in bounded memory."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from longshore.domain.messages import Grants, LogDigest, LogEnd, Outcome
from longshore.domain.objects import chunk_name

from longshore_worker.chunks import LARGEST_CHUNK, ChunkPolicy, Compressor, Sum
from longshore_worker.errors import GrantRefused, UploadError, UploadRefused
from longshore_worker.lines import LineEncoder, LineSplitter, Mask, Stream
from longshore_worker.spool import Chunk, Spool
from longshore_worker.uploads import Store

IDLE_LINE = 0.3
"""Seconds after which an unterminated line is shipped as it is: it may be a question to nobody."""
FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 15.0
REFUSALS = 5
"""How often a chunk that the store calls wrong is sent before it is left out; the final log has its lines anyway."""
GRANT_PAUSE = 5.0

log = logging.getLogger("longshore.log")


@dataclass(frozen=True, kw_only=True)
class LogTerms:
    """What a log is made with."""

    run: str
    attempt: int
    phase: str
    cap_bytes: int
    spool: Path


class PhaseLog:
    """The log of one attempt. Called from one event loop only."""

    def __init__(
        self,
        terms: LogTerms,
        grants: Grants,
        store: Store,
        *,
        mask: Mask,
        random: Random,
        clock: Callable[[], float],
        on_refused: Callable[[], None] = lambda: None,
        on_failing: Callable[[float | None], None] = lambda since: None,
    ) -> None:
        self._terms = terms
        self._grants = grants
        self._store = store
        self._mask = mask
        self._random = random
        self._clock = clock
        self._splitter = LineSplitter()
        self._compressor = Compressor()
        self._policy = ChunkPolicy(clock(), min(LARGEST_CHUNK, grants.chunks.max_bytes))
        self._spool = Spool(terms.spool)
        self._total = Sum()
        self._lines = 0
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._spooled = (self._total, self._lines)
        self._complete = True
        self._open = True
        self._last_bytes = clock()
        self._news = asyncio.Event()
        self._renewed = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._failing_since: float | None = None
        self._on_refused = on_refused
        self._on_failing = on_failing

    def begin(self) -> None:
        """Begin to ship."""
        self._pump = asyncio.get_running_loop().create_task(self._ship())

    def output(self, data: bytes) -> None:
        """Bytes of the phase."""
        self._last_bytes = self._clock()
        self._write("output", self._splitter.feed(self._mask.feed(data)))

    def say(self, text: str) -> None:
        """A line of the agent's own; whatever the phase left unterminated comes first."""
        self._write("output", self._splitter.flush())
        self._write("agent", [text])

    def watch(self, seconds: float) -> None:
        """Ship every second for so long."""
        self._policy.watch(self._clock() + seconds)
        self._news.set()

    def use(self, grants: Grants) -> None:
        """Upload with these from now on."""
        self._grants = grants
        self._renewed.set()

    async def finish(self, outcome: Outcome, patience_seconds: float) -> LogDigest:
        """Ship the rest, the final log and its end marker; gives up after so long, and then says incomplete."""
        self._write("output", self._splitter.feed(self._mask.flush()) + self._splitter.flush(final=True))
        self._cut()
        self._open = False
        total, lines = self._spooled
        whole = self._spool.close_log(total)
        digest = LogDigest(lines=lines, bytes=total.size, sha256=whole.sha256, complete=self._complete)
        end = LogEnd(run=self._terms.run, attempt=self._terms.attempt, digest=digest, outcome=outcome)
        marker = end.model_dump_json(by_alias=True, exclude_none=True).encode()
        try:
            async with asyncio.timeout(patience_seconds):
                await self._insist(lambda: self._store.put(self._grants.log, whole.size, self._spool.whole_log))
                await self._insist(lambda: self._store.put(self._grants.log_end, len(marker), lambda: [marker]))
                self._news.set()
                if self._pump:
                    await self._pump
        except (TimeoutError, UploadRefused) as error:
            log.warning("the final log is not in the store", extra={"error": repr(error)})
            return digest.model_copy(update={"complete": False})
        finally:
            await self.close()
        return digest

    async def close(self) -> None:
        """Stop shipping, whatever lies there."""
        if self._pump:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        self._spool.close()

    # Writing.

    def _write(self, stream: Stream, lines: list[str]) -> None:
        if not lines or not self._open:
            return
        now = datetime.now(UTC)
        encoder = LineEncoder(now, self._terms.phase, stream)
        for line in lines:
            encoded = encoder.encode(line)
            if stream == "output" and self._complete and self._size + len(encoded) > self._terms.cap_bytes:
                self._complete = False
                why = f"the log is cut off here: it has reached its cap of {self._terms.cap_bytes} bytes"
                self._keep(LineEncoder(now, self._terms.phase, "agent").encode(why))
            if self._complete or stream == "agent":
                self._keep(encoded)
        self._compress()
        self._news.set()

    @property
    def _size(self) -> int:
        return self._total.size + self._batch_size

    def _keep(self, encoded: bytes) -> None:
        self._batch.append(encoded)
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
            self._complete = self._open = False
            return
        self._spooled = (self._total, self._lines)
        self._news.set()

    # Shipping.

    async def _ship(self) -> None:
        while self._open or self._spool.waiting:
            self._news.clear()
            if self._spool.waiting:
                await self._send_first()
            else:
                await self._wait_for_news()
                self._cut_if_due()

    def _cut_if_due(self) -> None:
        now = self._clock()
        if self._splitter.has_rest and now >= self._last_bytes + IDLE_LINE:
            self._write("output", self._splitter.flush())
        if self._compressor.size and now >= self._policy.due_at(now):
            self._cut()

    async def _wait_for_news(self) -> None:
        now = self._clock()
        moments: list[float] = []
        if self._splitter.has_rest:
            moments.append(self._last_bytes + IDLE_LINE)
        if self._compressor.size:
            moments.append(self._policy.due_at(now))
        try:
            async with asyncio.timeout(max(0.0, min(moments) - now) if moments else None):
                await self._news.wait()
        except TimeoutError:
            return

    async def _send_first(self) -> None:
        chunk = self._spool.waiting[0]
        name = chunk_name(self._terms.phase, chunk.sequence)
        try:
            await self._insist(lambda: self._post(name, chunk))
        except UploadRefused as error:
            log.warning("a chunk was left out", extra={"chunk": name, "error": str(error)})
        self._spool.waiting.popleft()

    async def _post(self, name: str, chunk: Chunk) -> None:
        await self._store.post(self._grants.chunks, name, self._spool.read(chunk))

    async def _insist(self, upload: Callable[[], Awaitable[None]]) -> None:
        """Try until it works; a refusal that does not pass is raised after a few times."""
        pause, refusals = FIRST_BACKOFF, 0
        while True:
            try:
                await upload()
            except UploadError as error:
                refusals += isinstance(error, UploadRefused)
                if refusals >= REFUSALS:
                    raise
                log.debug("an upload failed", extra={"error": str(error)})
                await self._pause_after(error, pause)
                pause = min(pause * 2, LONGEST_BACKOFF)
            else:
                self._set_failing(None)
                return

    async def _pause_after(self, error: UploadError, pause: float) -> None:
        if self._failing_since is None:
            self._set_failing(self._clock())
        if not isinstance(error, GrantRefused):
            await asyncio.sleep(pause * self._random.uniform(0.5, 1))
            return
        self._renewed.clear()
        self._on_refused()
        try:
            async with asyncio.timeout(GRANT_PAUSE):
                await self._renewed.wait()
        except TimeoutError:
            return

    def _set_failing(self, since: float | None) -> None:
        changed = (self._failing_since is None) != (since is None)
        self._failing_since = since
        if changed:
            self._on_failing(since)
