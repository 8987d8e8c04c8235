"""Leaving the workspace of an attempt to a later one: packed, uploaded, and told meanwhile."""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass

from quaymaster.domain.messages import Packed
from quaymaster.domain.objects import INPUT_ENVIRONMENT, LEFT_OUTPUTS
from quaymaster.domain.workspace_rules import Bounds
from quaymaster.errors import Refused

from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.log.phase_log import PhaseLog
from quaymaster_worker.phase.outputs import written_in
from quaymaster_worker.workspace.folders import WorkFolder
from quaymaster_worker.workspace.packing import pack, read_pieces

STILL = 15.0
"""Seconds between two lines that say that something goes on."""


@dataclass(frozen=True)
class Left:
    """What is left: the workspace, and beside it the environment that it brought along and the phases' outputs."""

    folder: WorkFolder
    environment: Mapping[str, str]
    user: RunUser | None
    bounds: Bounds

    async def send(self, log: PhaseLog) -> Packed:
        """Pack and upload it. Raises PackingFailed, UploadRefused."""
        archive = self.folder.root / "left.tar.gz"
        loop = asyncio.get_running_loop()

        def say(text: str) -> None:
            loop.call_soon_threadsafe(log.say, text)

        owner = self.user.uid if self.user else os.geteuid()
        packing = in_thread(pack, self.folder.workspace, self._beside(log), archive, owner, self.bounds, say)
        packed = await _telling(packing, log, "packing the workspace")
        sending = log.send_workspace(packed.bytes, lambda: read_pieces(archive))
        await _telling(sending, log, f"uploading the workspace ({packed.bytes} bytes)")
        return packed

    def _beside(self, log: PhaseLog) -> dict[str, bytes]:
        beside: dict[str, bytes] = {}
        if self.environment:
            beside[INPUT_ENVIRONMENT] = json.dumps(dict(self.environment)).encode()
        try:
            if outputs := written_in(self.folder.outputs, self.user):
                beside[LEFT_OUTPUTS] = outputs
        except (Refused, OSError) as error:
            log.say(f"the outputs are left out: {told(error)}")
        return beside


def told(error: Refused | OSError) -> str:
    """What went wrong, for the log."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


async def _telling[T](work: Coroutine[None, None, T], log: PhaseLog, what: str) -> T:
    """Say now and then that it goes on: what stands in the log is the sign of life that the control plane looks for."""
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait([task], timeout=STILL)
            if done:
                return task.result()
            log.say(f"{what} goes on")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def in_thread[T, **P](work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do it in a thread; if cancelled, wait for its end all the same, so that nobody removes the folder under it."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
