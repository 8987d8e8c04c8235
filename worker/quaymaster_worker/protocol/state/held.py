"""What a worker knows: who it is, its pool's settings, and the attempt in its hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from quaymaster.domain.messages import Assign, Executor, Holding

from quaymaster_worker.protocol.state.memory import Key
from quaymaster_worker.protocol.state.renewal import Renewal
from quaymaster_worker.protocol.state.telling import Telling

PREPARING_PAUSE = 5.0

Stage = Literal["preparing", "prepared", "running", "finished"]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who the worker is, and what it says about itself."""

    worker_id: str
    session: str
    agent_version: str
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    launch: str | None = None
    log_timeout_seconds: float | None = None
    run_timeout_seconds: float | None = None
    executor: Executor = Executor.PROCESS


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """What `welcome` says; these are used until it comes."""

    lease_seconds: float = 180
    stop_grace_seconds: float = 20
    log_cap_bytes: int = 1 << 30
    workspace_cap_bytes: int = 2 << 30


@dataclass
class Held:
    """The attempt in hand."""

    assign: Assign
    prepare_by: float
    preparing_at: float
    renewal: Renewal
    telling: Telling
    stage: Stage = "preparing"
    phase: int = 0
    """The phase that runs, or is to begin first, by its number in the run."""
    asked_for: int | None = None
    """The phase that is to follow; the one before it has finished, and the control plane is asked."""
    unwanted: bool = False
    """The control plane has refused it: nobody waits for its report."""

    @classmethod
    def offered(cls, assign: Assign, now: float) -> "Held":
        """An attempt that has just been assigned."""
        return cls(
            assign=assign,
            prepare_by=now + assign.prepare_timeout_seconds,
            preparing_at=now + PREPARING_PAUSE,
            renewal=Renewal(assign.grants.expires_in_seconds, now),
            telling=Telling(assign.log_timeout_seconds, now),
            phase=assign.first,
        )

    def go_on(self, log_timeout_seconds: float, run_timeout_seconds: float, now: float) -> None:
        """The phase that was asked for begins, with its own timeouts."""
        self.phase, self.asked_for = self.asked_for or self.phase, None
        timeouts = {"log_timeout_seconds": log_timeout_seconds, "run_timeout_seconds": run_timeout_seconds}
        self.assign = self.assign.model_copy(update=timeouts)
        self.telling = Telling(log_timeout_seconds, now)
        self.telling.told(now)

    @property
    def key(self) -> Key:
        """Run and attempt."""
        return self.assign.run, self.assign.attempt

    @property
    def has_begun(self) -> bool:
        """Whether its phase runs, or has ended."""
        return self.stage in ("running", "finished")

    @property
    def holding(self) -> Holding:
        """As `registered` tells it."""
        return Holding(run=self.assign.run, attempt=self.assign.attempt, stage=self.stage)
