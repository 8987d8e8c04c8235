"""What all workers of one agent process share."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import httpx
from quaymaster.domain.workspace_rules import Bounds

from quaymaster_worker.configuration.settings import Settings
from quaymaster_worker.executor import Executor
from quaymaster_worker.processes.cgroups import delegated
from quaymaster_worker.processes.leftovers import StateFile
from quaymaster_worker.processes.memory_events import count_oom_kills
from quaymaster_worker.workspace.folders import StateFolder

if TYPE_CHECKING:
    from quaymaster_policy.policy import Policy

log = logging.getLogger("quaymaster.host")


@dataclass(kw_only=True)
class Host:
    """The process and the machine around the workers. `clock` is monotonic."""

    settings: Settings
    folder: StateFolder
    state: StateFile
    executor: Executor
    clock: Callable[[], float]
    random: Random
    policy: "Policy | None" = None
    """What speaks against runs here."""
    bounds: Bounds = field(default_factory=Bounds)
    oom_kills: Callable[[], int | None] = count_oom_kills
    cgroup: Path | None = field(default_factory=lambda: delegated() if os.geteuid() != 0 else None)
    """Where phases get a cgroup of their own; root ends their processes without."""

    @cached_property
    def http(self) -> httpx.AsyncClient:
        """One client for all, made when first needed: its trust store is most of an idle worker's memory."""
        return httpx.AsyncClient(follow_redirects=False)

    async def keep_ready(self) -> None:
        """Have done ahead what the next run may use; that it cannot be done is that run's to tell."""
        try:
            await self.executor.keep_ready()
            if spare := self.state.spare:
                spare.make_ahead()
        except OSError as error:
            log.warning("nothing is ready for the next run", extra={"error": str(error)})

    async def close(self) -> None:
        """Close what was opened."""
        await self.executor.close()
        if "http" in vars(self):
            await self.http.aclose()
