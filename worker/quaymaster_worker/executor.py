"""What runs a phase's command, whatever it runs it in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quaymaster.domain.messages import Assign, ImageUsed

from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.metering.usage import Advice, Reading
from quaymaster_worker.workspace.folders import WorkFolder


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a command finds the folders of its attempt, and the file for its outputs."""

    workspace: str
    home: str
    temporary: str
    outputs: str


@dataclass(frozen=True, kw_only=True)
class Order:
    """A command to run; `environment` is all that it sees. `folder` is its workspace, on the host.

    `image` is what it runs in, where it runs in one; `read_only` whether its phase changes nothing.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    user: RunUser | None = None
    image: str | None = None
    read_only: bool = False
    cgroup: Path | None = None
    """A cgroup of its own that it is started in, and by which it is killed."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended; neither a code nor a signal when nobody knows. `left`: processes that could not be ended.

    `not_started`: why the command never came to run, where that is known only now.
    """

    exit_code: int | None = None
    signal: int | None = None
    left: Sequence[int] = ()
    out_of_memory: bool = False
    not_started: str | None = None


class Execution(Protocol):
    """A command that runs."""

    @property
    def pids(self) -> Sequence[int]:
        """The processes to look for after a crash: the first holds all the others."""
        ...

    async def read(self) -> bytes:
        """The next bytes of its merged output; empty at the end."""
        ...

    async def wait(self) -> Ended:
        """Its end; when this returns, nothing that it started is left but what the answer names."""
        ...

    async def reading(self) -> Reading | None:
        """What it uses; None where nobody can tell (any more)."""
        ...

    def stop(self) -> None:
        """Ask it, and all that it started, to end (SIGTERM)."""
        ...

    def kill(self) -> None:
        """End it, and all that it started, at once."""
        ...


class Starter(Protocol):
    """All that can be done before the command is known to begin; starts one command."""

    async def hold(self, order: Order) -> None:
        """Do for this order all that can be done before it begins. Raises StartFailed."""
        ...

    async def start(self, order: Order) -> Execution:
        """Start the command, held or not; of one that is held, no other. Raises StartFailed when it cannot be."""
        ...

    async def close(self) -> None:
        """Take back what was made ready, if nothing was started; twice is fine."""
        ...


class Executor(Protocol):
    """Makes ready to start commands."""

    @property
    def advice(self) -> Advice:
        """Where somebody would give its commands more."""
        ...

    def places(self, folder: WorkFolder) -> Places:
        """Where a command finds the folders of this attempt."""
        ...

    @property
    def outside(self) -> tuple[str, ...]:
        """Folders that all commands find beside their own, by which a workspace's links may lead to them."""
        ...

    def passed(self, *, read_only: bool) -> Mapping[str, str]:
        """What a command sees beside what its run gives it."""
        ...

    async def try_out(self, work: WorkFolder, user: RunUser | None) -> None:
        """Try what every run will need. Raises ConfigurationRefused, StartFailed, OSError."""
        ...

    async def open(self) -> None:
        """Do what is needed for as long as the agent lives; `close` undoes it."""
        ...

    async def bring(self, assign: Assign, say: Callable[[str], None]) -> ImageUsed | None:
        """Have on this host what the run's commands run in; says how that goes. Raises PreparationFailed."""
        ...

    async def make_ready(self) -> Starter:
        """Do ahead what can be done ahead. Raises OSError."""
        ...

    async def keep_ready(self) -> None:
        """Nothing is to be done now: do what the next start may use. Raises OSError."""
        ...

    async def close(self) -> None:
        """Take back what was done for a next start."""
        ...
