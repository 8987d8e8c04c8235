"""Staying with a run until it has ended: its states, why it waits, its log, its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from quaymaster.domain.api import AcceptedRun, LogView, RunView
from quaymaster.domain.states import FINAL, RunState

from quaymaster_cli.deployment.client import ApiClient
from quaymaster_cli.errors import CliError, Unknown
from quaymaster_cli.logs.follower import LogFollower
from quaymaster_cli.logs.persisting import Persistence
from quaymaster_cli.logs.printing import print_lines
from quaymaster_cli.showing.output import Output

APPEARS_SECONDS = 60.0
"""How long a request may be on its way; one that is still nowhere is looked for among the dead letters."""
WHY_SECONDS = 5.0
_POLL_SECONDS = 0.25
AT_REST = FINAL | {RunState.UNCONFIRMED}
"""States in which nothing more comes by itself."""


@dataclass
class RunFollower:
    """Follows one run, says on stderr what changes, and prints its log."""

    api: ApiClient
    output: Output
    persist: Persistence
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    look: Callable[[], None] = lambda: None
    """Called wherever nothing is half done."""
    _state: RunState | None = None
    _why: str = ""
    _asked_at: float = 0.0

    def appear(self, accepted: AcceptedRun) -> None:
        """Wait until a request has become a run. Raises CliError when it was refused or got lost on its way."""
        until = self.clock() + APPEARS_SECONDS
        while True:
            try:
                self.persist(partial(self.api.run, accepted.run))
                return
            except Unknown:
                if self.clock() >= until:
                    raise CliError(self._lost(accepted)) from None
            self.sleep(_POLL_SECONDS)

    def _lost(self, accepted: AcceptedRun) -> str:
        for letter in self.persist(self.api.dead_letters).dead_letters:
            if letter.request_id == accepted.request_id:
                return f"request {accepted.request_id} was refused: {letter.reason}"
        return f"request {accepted.request_id} has not become a run yet; `quaymaster run why {accepted.run}` later on"

    def finish(self, run: str) -> RunView:
        """Print the log as it grows; the run as it ended, or waits for somebody to confirm what follows."""
        self.print_log(run)
        while (view := self.persist(partial(self.api.run, run))).state not in AT_REST:
            self.sleep(_POLL_SECONDS)
        return view

    def print_log(self, run: str) -> None:
        """Print the log as it grows, until it ends."""
        log = LogFollower(self.api, run, self.output.note, self.persist, sleep=self.sleep, clock=self.clock)
        print_lines(log.follow(self._waiting), self.output)

    def _waiting(self, view: LogView) -> None:
        self.look()
        now = self.clock()
        if view.state is not self._state:
            before, self._state, self._asked_at, self._why = self._state, view.state, now, ""
            # A command may be over before anyone looks; whoever saw it wait is told that its output comes now.
            unseen = view.state in AT_REST and view.begun and before not in (None, RunState.RUNNING)
            if view.state not in AT_REST or unseen:
                self.output.note(f"run {view.run} is {RunState.RUNNING if unseen else view.state}")
        elif view.state in (RunState.QUEUED, RunState.READY) and now - self._asked_at >= WHY_SECONDS:
            self._asked_at = now
            why = self.persist(partial(self.api.why, view.run)).why
            if why != self._why:
                self.output.note(why)
                self._why = why
