"""How a log's objects get to the store: again and again until it takes them, with new grants where the old are over."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from random import Random

from quaymaster.domain.messages import Grants, PutGrant

from quaymaster_worker.connection.uploads import Store
from quaymaster_worker.errors import GrantRefused, UploadError, UploadRefused

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 15.0
REFUSALS = 5
"""How often an object that the store calls wrong is sent before that is taken for its last word."""
GRANT_PAUSE = 5.0

log = logging.getLogger("quaymaster.log")


class Delivery:
    """Uploads with the newest grants. Each upload raises UploadRefused, and nothing else of an UploadError."""

    def __init__(
        self,
        grants: Grants,
        store: Store,
        *,
        random: Random,
        clock: Callable[[], float],
        on_refused: Callable[[], None],
        on_failing: Callable[[float | None], None],
    ) -> None:
        self._grants = grants
        self._store = store
        self._random = random
        self._clock = clock
        self._on_refused = on_refused
        self._on_failing = on_failing
        self._renewed = asyncio.Event()
        self._failing_since: float | None = None

    def use(self, grants: Grants) -> None:
        """Upload with these from now on."""
        self._grants = grants
        self._renewed.set()

    async def send_chunk(self, name: str, read: Callable[[], bytes]) -> None:
        """Upload one chunk, read anew for each try."""
        await self._insist(lambda: self._store.post(self._grants.chunks, name, read()))

    async def send_log(self, size: int, read: Callable[[], Iterable[bytes]]) -> None:
        """Upload the final log."""
        await self._insist(lambda: self._store.put(self._grants.log, size, read))

    async def send_outputs(self, body: bytes) -> None:
        """Upload what the phase has left for others."""
        await self._insist(lambda: self._store.put(_granted(self._grants.outputs), len(body), lambda: [body]))

    async def send_workspace(self, size: int, read: Callable[[], Iterable[bytes]]) -> None:
        """Upload the workspace that is left for a later attempt."""
        await self._insist(lambda: self._store.put(_granted(self._grants.workspace), size, read))

    async def send_end(self, marker: bytes) -> None:
        """Upload the end marker."""
        await self._insist(lambda: self._store.put(self._grants.log_end, len(marker), lambda: [marker]))

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


def _granted(grant: PutGrant | None) -> PutGrant:
    """What the newest grants allow, or not: they are renewed, and a newer control plane's may say less."""
    if grant is None:
        raise UploadRefused("the control plane takes none")
    return grant
