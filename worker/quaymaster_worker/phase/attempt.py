"""One attempt in hand: its folder, its log and its phase, from the assignment to the last upload."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from quaymaster.domain.messages import Assign, Grants, ImageUsed, LogDigest, Outcome, Packed
from quaymaster.domain.states import Reason
from quaymaster.errors import Refused

from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.connection.uploads import Store
from quaymaster_worker.errors import AgentError, PreparationFailed, StartFailed
from quaymaster_worker.executor import Execution, Starter
from quaymaster_worker.host import Host
from quaymaster_worker.log.log_writer import LogTerms
from quaymaster_worker.log.masking import MaskCommands, Secrets
from quaymaster_worker.log.phase_log import PhaseLog
from quaymaster_worker.logs import echo_of
from quaymaster_worker.metering.usage import Used
from quaymaster_worker.phase.leaving import Left, in_thread, told
from quaymaster_worker.phase.leg import Leg
from quaymaster_worker.phase.orders import Orders
from quaymaster_worker.phase.outputs import outputs_in
from quaymaster_worker.phase.phase import Phase
from quaymaster_worker.phase.policies import check, document_of
from quaymaster_worker.phase.timeouts import Limits
from quaymaster_worker.processes.cgroups import make_cgroup, remove_cgroup
from quaymaster_worker.protocol.state.held import Identity, PoolSettings
from quaymaster_worker.workspace.folders import remove_folder
from quaymaster_worker.workspace.spec import with_spec
from quaymaster_worker.workspace.unpacking import fetch, take_environment, take_outputs, unpack

log = logging.getLogger("quaymaster.attempt")


class Attempt:
    """Prepared once, run at most once, removed in the end."""

    def __init__(
        self,
        assign: Assign,
        identity: Identity,
        host: Host,
        user: RunUser | None,
        store: Store,
        pool: Callable[[], PoolSettings],
    ) -> None:
        self.assign = assign
        self.key = (assign.run, assign.attempt)
        self._identity = identity
        self._worker_id = identity.worker_id
        self._host = host
        self._user = user
        self._cgroup: Path | None = None
        self._store = store
        self._pool = pool
        self._folder = host.folder.attempt(assign.run, assign.attempt, identity.worker_id.rpartition(".")[2])
        self._grants = assign.grants
        self._bounds = replace(host.bounds, outside=host.executor.outside)
        self._packed_environment: Mapping[str, str] = {}
        self.on_refused: Callable[[], None] = lambda: None
        self.on_failing: Callable[[float | None], None] = lambda since: None
        self.on_phase_done: Callable[[], None] = lambda: None
        self._secrets = Secrets(host.settings.masked)
        self._mask = MaskCommands(self._secrets)
        self._used = Used(host.executor.advice, os.cpu_count() or 1)
        self._orders: Orders | None = None
        self._starter: Starter | None = None
        self._began_any = False
        self.image: ImageUsed | None = None
        """What its commands run in; known once it is prepared."""
        self.log: PhaseLog | None = None
        self.leg: Leg | None = None

    async def prepare(self) -> None:
        """Make the folder and bring the workspace, and a large command, into it. Raises PreparationFailed."""
        try:
            self._host.state.hold(self._worker_id, *self.key, self._folder.root)
            # First, and beside all else: what it starts takes longest.
            self._starter = await self._host.executor.make_ready()
            self._folder.make(self._host.state.spare)
            self.assign = await with_spec(self._host.http, self.assign, self._folder.root)
            if self.assign.workspace:
                archive = self._folder.root / "workspace.tar.gz"
                await fetch(self._host.http, self.assign.workspace, archive, self._bounds)
                # What an earlier attempt has left may know folders that this host does not have.
                tell = self._from_thread() if self.assign.first else None
                await in_thread(unpack, archive, self._folder.workspace, self._bounds, tell)
                archive.unlink()
                self._packed_environment = take_environment(self._folder.workspace)
                if self.assign.first:
                    take_outputs(self._folder.workspace, self._folder.outputs)
            if self._user and self.assign.workspace:
                await in_thread(self._folder.give_to, self._user)
            elif self._user:
                # Four empty folders: done before a thread would have begun.
                self._folder.give_to(self._user)
            self.image = await self._host.executor.bring(self.assign, self._say)
            self._cgroup = make_cgroup(self._host.cgroup, self._folder.root.name)
            self._orders = Orders(
                self.assign,
                self._packed_environment,
                self._folder,
                self._user,
                self._cgroup,
                self._host.executor,
                image=self.image,
                task_role=self._host.settings.task_role,
            )
            self._orders.check()
            if policy := self._host.policy:
                names = sorted(self._orders.names)
                document = document_of(self.assign, self._orders.phases, names, self.image, self._identity)
                check(policy, document, self._say)
            for value in self._orders.values_of(self._host.settings.mask):
                self._secrets.add(value)
        except OSError as error:
            raise PreparationFailed(Reason.WORKSPACE, f"the worker's disk: {error}"[:200]) from None

    def begin(self) -> None:
        """`go` came: both timeouts of the first phase count from here. Raises OSError."""
        if self._orders is None:
            raise AgentError("a phase begins only once it is prepared")
        assign, log = self.assign, self._open_log()
        self.leg = Leg(
            self._orders,
            log,
            self._limits(assign.log_timeout_seconds, assign.run_timeout_seconds),
            make_phase=lambda limits: self._make_phase(log, limits),
            ask=self.on_phase_done,
            leave=(lambda: self._leave_workspace(log)) if assign.pack else None,
            grace_seconds=lambda: self._pool().stop_grace_seconds,
        )

    def _open_log(self) -> PhaseLog:
        """The log, which begins with the first phase, or with what is to be told before. Raises OSError."""
        if self.log:
            return self.log
        host, assign = self._host, self.assign
        terms = LogTerms(
            run=assign.run,
            attempt=assign.attempt,
            phase=assign.phase,
            cap_bytes=self._pool().log_cap_bytes,
            spool=self._folder.spool,
            echo=echo_of(*self.key, assign.stack) if host.settings.logs_on_stdout else None,
        )
        self.log = PhaseLog(
            terms,
            self._grants,
            self._store,
            mask=self._mask,
            random=host.random,
            clock=host.clock,
            on_refused=lambda: self.on_refused(),
            on_failing=lambda since: self.on_failing(since),
        )
        return self.log

    def _say(self, text: str) -> None:
        """A line before the first phase begins; shipped at once, for those who wait."""
        log = self._open_log()
        log.say(text)
        log.begin()

    def _from_thread(self) -> Callable[[str], None]:
        """`_say`, for a thread."""
        loop = asyncio.get_running_loop()

        def say(text: str) -> None:
            loop.call_soon_threadsafe(self._say, text)

        return say

    def go_on(self, log_seconds: float, run_seconds: float) -> None:
        """`go` came for the next phase."""
        self._keep_timeouts(log_seconds, run_seconds)
        if self.leg:
            self.leg.go_on(self._limits(log_seconds, run_seconds))

    async def hold(self) -> None:
        """Go as far as one can without `go`; after `prepare`. What cannot be started is told when it is."""
        if self._starter and self._orders:
            with suppress(StartFailed, ValueError):
                await self._starter.hold(self._orders.steps(self._orders.phases[0])[0].order)

    async def run(self) -> Outcome:
        """Run the phases to the end of their last process; after `begin`."""
        if self.leg is None:
            raise AgentError("phases run only after go")
        outcome = await self.leg.run()
        # What is told of it goes to the table.
        note = self._mask.hide(outcome.note) if outcome.note else None
        return outcome.model_copy(update={"note": note, "usage": self._used.usage})

    def _make_phase(self, log: PhaseLog, limits: Limits) -> Phase:
        host = self._host
        return Phase(
            self._next_starter,
            log,
            limits,
            clock=host.clock,
            grace_seconds=lambda: self._pool().stop_grace_seconds,
            oom_kills=host.oom_kills,
            on_started=self._note_processes,
            tells_commands=host.settings.debug,
            used=self._used,
        )

    async def _next_starter(self) -> Starter:
        """The one that was made ready ahead, for the first command. Raises OSError."""
        if self._began_any or self._starter is None:
            self._starter = await self._host.executor.make_ready()
        self._began_any = True
        return self._starter

    async def _leave_workspace(self, log: PhaseLog) -> Packed:
        """Raises PackingFailed, UploadRefused."""
        most = min(self._bounds.packed_bytes, self._pool().workspace_cap_bytes)
        bounds = replace(self._bounds, packed_bytes=most)
        left = Left(self._folder, self._packed_environment, self._user, bounds)
        return await left.send(log)

    async def leave_outputs(self, patience_seconds: float) -> None:
        """Upload what the phase has left for others; its log says what cannot be. Raises OSError of the log."""
        if self.log is None:
            return
        try:
            key = self._host.settings.private_key if self._host.settings.sensitive_outputs else None
            found = outputs_in(self._folder.outputs, self._user, key)
        except (Refused, OSError) as error:
            self.log.say(f"the outputs are left out: {told(error)}")
            return
        if found:
            await self.log.send_outputs(found.model_dump_json(by_alias=True).encode(), patience_seconds)

    async def finish(self, outcome: Outcome, patience_seconds: float) -> LogDigest:
        """Ship what is left of the log, and its end marker."""
        if self.log is None:
            return LogDigest(complete=False)
        return await self.log.finish(outcome, patience_seconds)

    async def remove(self) -> None:
        """Remove the folder, and whatever was made ready."""
        if self._starter:
            await self._starter.close()
        if self.log:
            await self.log.close()
        remove_cgroup(self._cgroup)
        try:
            await asyncio.to_thread(remove_folder, self._folder.root)
        except OSError as error:
            log.warning("a work folder stays", extra={"run": self.assign.run, "error": str(error)})

    def use(self, grants: Grants) -> None:
        """Upload with these from now on."""
        self._grants = grants
        if self.log:
            self.log.use(grants)

    def extend(self, log_seconds: float, run_seconds: float, note: str) -> None:
        """The phase has new timeouts, from its beginning on; the launcher's own stay the upper bound."""
        self._keep_timeouts(log_seconds, run_seconds)
        if self.leg:
            self.leg.phase.extend(self._limits(log_seconds, run_seconds))
        if self.log and note:
            self.log.say(note)

    def _limits(self, log_seconds: float, run_seconds: float) -> Limits:
        launcher = self._host.settings
        return Limits(log_seconds, run_seconds, self.assign.warning_seconds).at_most(
            launcher.launcher_log_timeout.total_seconds() if launcher.launcher_log_timeout else None,
            launcher.launcher_run_timeout.total_seconds() if launcher.launcher_run_timeout else None,
        )

    def _keep_timeouts(self, log_seconds: float, run_seconds: float) -> None:
        timeouts = {"log_timeout_seconds": log_seconds, "run_timeout_seconds": run_seconds}
        self.assign = self.assign.model_copy(update=timeouts)

    def _note_processes(self, execution: Execution) -> None:
        self._host.state.name_processes(self._worker_id, execution.pids)
        if self.log:
            self.log.begin()
