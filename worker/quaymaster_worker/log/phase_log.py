"""One attempt's log, from the phase's bytes to objects in the store, in bounded memory.

`log_writer` makes chunks of the bytes, the spool keeps them on disk, `delivery` gets them to the store.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from random import Random

from quaymaster.domain.messages import Grants, LogDigest, LogEnd, Outcome
from quaymaster.domain.objects import chunk_name

from quaymaster_worker.connection.uploads import Store
from quaymaster_worker.defects import watched
from quaymaster_worker.errors import UploadRefused
from quaymaster_worker.log.chunks import LARGEST_CHUNK
from quaymaster_worker.log.delivery import Delivery
from quaymaster_worker.log.lines import Mask
from quaymaster_worker.log.log_writer import LogTerms, LogWriter
from quaymaster_worker.log.spool import Spool

log = logging.getLogger("quaymaster.log")


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
        self._clock = clock
        self._spool = Spool(terms.spool)
        self._news = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._writer = LogWriter(
            terms,
            self._spool,
            mask=mask,
            clock=clock,
            largest_chunk=min(LARGEST_CHUNK, grants.chunks.max_bytes),
            on_news=self._news.set,
        )
        self._delivery = Delivery(
            grants, store, random=random, clock=clock, on_refused=on_refused, on_failing=on_failing
        )

    def begin(self) -> None:
        """Begin to ship; doing it again changes nothing."""
        if self._pump:
            return
        self._pump = watched(asyncio.get_running_loop().create_task(self._ship()))

    def output(self, data: bytes) -> None:
        """Bytes of the phase."""
        self._writer.output(data)

    def say(self, text: str) -> None:
        """A line of the agent's own; whatever the phase left unterminated comes first."""
        self._writer.say(text)

    def enter(self, phase: str) -> None:
        """What comes from now on is of this phase."""
        self._writer.enter(phase)

    def watch(self, seconds: float) -> None:
        """Ship every second for so long."""
        self._writer.watch(seconds)
        self._news.set()

    def use(self, grants: Grants) -> None:
        """Upload with these from now on."""
        self._delivery.use(grants)

    async def send_outputs(self, body: bytes, patience_seconds: float) -> None:
        """Upload what the phase has left for others; what cannot be uploaded is told in the log."""
        try:
            async with asyncio.timeout(patience_seconds):
                await self._delivery.send_outputs(body)
        except TimeoutError:
            self.say("the outputs could not be uploaded: the store does not answer")
        except UploadRefused as error:
            self.say(f"the outputs could not be uploaded: {error}")

    async def send_workspace(self, size: int, read: Callable[[], Iterable[bytes]]) -> None:
        """Upload the packed workspace, of so many bytes, read anew for each try. Raises UploadRefused."""
        await self._delivery.send_workspace(size, read)

    async def finish(self, outcome: Outcome, patience_seconds: float) -> LogDigest:
        """Ship the rest, the final log and its end marker; gives up after so long, and then says incomplete."""
        digest, whole = self._writer.end()
        end = LogEnd(run=self._terms.run, attempt=self._terms.attempt, digest=digest, outcome=outcome)
        try:
            async with asyncio.timeout(patience_seconds):
                await self._delivery.send_log(whole.size, self._spool.whole_log)
                await self._delivery.send_end(end.model_dump_json(by_alias=True, exclude_none=True).encode())
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

    async def _ship(self) -> None:
        while self._writer.is_open or self._spool.waiting:
            self._news.clear()
            if self._spool.waiting:
                await self._send_first()
            else:
                await self._wait_for_news()
                self._writer.cut_if_due(self._clock())

    async def _wait_for_news(self) -> None:
        now = self._clock()
        due_at = self._writer.due_at(now)
        try:
            async with asyncio.timeout(None if due_at is None else max(0.0, due_at - now)):
                await self._news.wait()
        except TimeoutError:
            return

    async def _send_first(self) -> None:
        chunk = self._spool.waiting[0]
        name = chunk_name(chunk.sequence)
        try:
            await self._delivery.send_chunk(name, lambda: self._spool.read(chunk))
        except (UploadRefused, OSError) as error:
            # The final log has the chunk's lines anyway.
            log.warning("a chunk was left out", extra={"chunk": name, "error": str(error)})
        self._spool.waiting.popleft()
