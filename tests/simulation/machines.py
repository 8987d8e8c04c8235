"""The machines that agents run on, and what their commands really do: what no table knows."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from quaymaster.domain import objects
from quaymaster.domain.messages import FromAgent, LogDigest, Outcome
from quaymaster.domain.run import Run
from quaymaster.domain.states import Reason

from tests.shared.memory.agents import FINISHED, FakeAgent, Held, with_workspace, write_end_marker
from tests.shared.memory.world import World
from tests.simulation.real_agent import RealAgent

LEASE = timedelta(minutes=3)
DIGEST = LogDigest(lines=1, bytes=2, sha256="a" * 64)


@dataclass(kw_only=True)
class Machine:
    """One agent process and its command.

    `cut_since`: it reaches neither broker nor bucket. `frozen`: nor does it run. `wedged`: it neither ends its command
    nor listens to a kill. `doubted`: it may rightly be thought to be gone although it acts.
    """

    name: str
    agent: FakeAgent | RealAgent
    world: World
    task: str | None = None
    alive: bool = True
    doubted: bool = False
    wedged: bool = False
    frozen: bool = False
    cut_since: datetime | None = None
    run: Run | None = None
    begun_at: datetime | None = None
    heard_at: datetime | None = None
    silent: bool = False
    unwritten: tuple[Held, Outcome] | None = None
    chunks: int = 0
    noticed: int = 0
    at_phase: tuple[str, int, int] | None = None
    said: list[tuple[str, FromAgent]] = field(default_factory=list[tuple[str, FromAgent]])

    @property
    def is_there(self) -> bool:
        """Whether messages get to it and it acts upon them."""
        return self.alive and not self.frozen and self.cut_since is None

    @property
    def acts(self) -> bool:
        """Whether its command does something now."""
        held = self.agent.held
        return self.alive and not self.frozen and held is not None and held.stage == "running"

    def new_attempts(self) -> list[tuple[str, int]]:
        """The attempts that began since this was last asked."""
        new = self.agent.begun[self.noticed :]
        self.noticed = len(self.agent.begun)
        for run_id, _ in new:
            self._begin(run_id)
        return new

    def new_phase(self) -> tuple[str, int] | None:
        """The run and the phase that its command is at, if it was at another one when this was last asked."""
        held = self.agent.held
        if not self.acts or not held or self.at_phase == (*held.key, held.phase):
            return None
        self.at_phase = (*held.key, held.phase)
        self._begin(held.run)
        return held.run, held.phase

    def _begin(self, run_id: str) -> None:
        self.run = self.world.table.run(run_id)
        self.begun_at = self.heard_at = self.world.now

    def end(self, outcome: Outcome = FINISHED) -> None:
        """Its command ends; the end marker is written if the bucket can be reached."""
        held = self.agent.held
        outcome = with_workspace(self.world, held, outcome) if held else outcome
        self.agent.finish(outcome, marker=self.cut_since is None)
        if self.cut_since and held:
            self.unwritten = (Held(held.run, held.attempt, "finished"), outcome)

    def write(self) -> None:
        """Its command says something."""
        held = self.agent.held
        if self.acts and self.cut_since is None and held:
            self.chunks += 1
            key = objects.chunk_prefix(self.world.pool.id, held.run, held.attempt)
            body = gzip.compress(b'{"stream": "output", "msg": "a line"}\n', 1, mtime=0)
            self.world.blobs.write(key + objects.chunk_name(self.chunks), body)
            self.heard_at = self.world.now

    def tick(self, say: Callable[[str], None]) -> None:
        """Time has passed: timeouts, the lease, and what is said again."""
        if not self.alive or self.frozen:
            return
        if self.acts and not self.wedged:
            self._judge(say)
        if self.alive:
            self.agent.repeat()

    def _judge(self, say: Callable[[str], None]) -> None:
        now, run = self.world.now, self.run
        if not run or not self.begun_at or not self.heard_at:
            return
        if self.cut_since and now - self.cut_since >= LEASE:
            self._kill(Reason.WORKER_LOST, say)
        elif now - self.begun_at >= (run.run_timeout or timedelta(hours=9)):
            self._kill(Reason.RUN_TIMEOUT, say)
        elif now - self.heard_at >= (run.log_timeout or timedelta(hours=9)):
            self._kill(Reason.LOG_TIMEOUT, say)

    def _kill(self, reason: Reason, say: Callable[[str], None]) -> None:
        say(f"{self.name} kills its command: {reason}")
        self.end(Outcome(end="FAILED", reason=reason, exit_code=-9))

    def cut(self, *, frozen: bool) -> None:
        """It loses the network, or stands still."""
        self.cut_since, self.frozen = self.world.now, frozen
        if isinstance(self.agent, RealAgent):
            self.agent.lose_connection()

    def heal(self, say: Callable[[str], None]) -> None:
        """It is back: what its timers say comes first, then it connects."""
        self.frozen = False
        if self.acts and not self.wedged:
            self._judge(say)
        if self.cut_since:
            self.doubted = True
        self.cut_since = None
        if self.unwritten:
            write_end_marker(self.world, self.unwritten[0], DIGEST, self.unwritten[1])
            self.unwritten = None
        self.agent.register()
