"""Where things lie on this host: state files in `<state>/agents/`, one folder per attempt in `<state>/work/`."""

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quaymaster_worker.configuration.settings import RunUser


@dataclass(frozen=True)
class StateFolder:
    """The agent's folder on this host; several agents share it."""

    root: Path

    def make(self) -> None:
        """Make what is missing. Only the way to the work folders is open to others, and nothing can be listed."""
        if os.geteuid() == 0:
            # Phases have a uid of their own and must get through to their folder.
            self.root.chmod(stat.S_IMODE(self.root.stat().st_mode) | stat.S_IXOTH)
        self.agents.mkdir(mode=0o700, exist_ok=True)
        self.work.mkdir(mode=0o711, exist_ok=True)

    @property
    def agents(self) -> Path:
        """State files, one per agent process."""
        return self.root / "agents"

    @property
    def work(self) -> Path:
        """Work folders, one per attempt."""
        return self.root / "work"

    def spare(self, agent: str) -> "WorkFolder":
        """The folder that an agent (by its state file's name) makes ahead for its next attempt."""
        return WorkFolder(self.work / f"spare-{agent}")

    def attempt(self, run: str, attempt: int, worker_name: str) -> "WorkFolder":
        """The folder of one attempt at one worker."""
        return WorkFolder(self.work / f"{_plain(run)}-{attempt}-{worker_name}")


@dataclass(frozen=True)
class WorkFolder:
    """One attempt's folder: the spool for the agent, and `phase/` for the command."""

    root: Path

    @property
    def spool(self) -> Path:
        """The compressed log."""
        return self.root / "log.spool"

    @property
    def phase(self) -> Path:
        """All that the commands have of it."""
        return self.root / "phase"

    @property
    def workspace(self) -> Path:
        """Where the command begins, and where its workspace is unpacked."""
        return self.phase / "workspace"

    @property
    def home(self) -> Path:
        """The command's HOME."""
        return self.phase / "home"

    @property
    def temporary(self) -> Path:
        """The command's TMPDIR."""
        return self.phase / "tmp"

    @property
    def outputs(self) -> Path:
        """Where the command may leave its outputs."""
        return self.phase / "outputs.json"

    def make(self, spare: "WorkFolder | None" = None) -> None:
        """Make it afresh, of one that was made ahead if it is there. Raises OSError."""
        remove_folder(self.root)
        if spare:
            with suppress(FileNotFoundError):
                spare.root.rename(self.root)
                return
        self._make()

    def make_ahead(self) -> None:
        """Make it, whole or not at all, unless it is there. Raises OSError."""
        if self.root.exists():
            return
        try:
            self._make()
        except OSError:
            remove_folder(self.root)
            raise

    def _make(self) -> None:
        self.root.mkdir(mode=0o711)
        for folder in (self.phase, self.workspace, self.home, self.temporary):
            folder.mkdir(mode=0o700)
        self.spool.touch(mode=0o600)

    def give_to(self, user: RunUser) -> None:
        """Make everything of the phase's the user's. Raises OSError."""
        for folder, folders, files in os.walk(self.phase):
            for name in (".", *folders, *files):
                os.chown(os.path.join(folder, name), user.uid, user.gid, follow_symlinks=False)


def remove_folder(folder: Path) -> None:
    """Remove a folder, also one whose owner took away his own right to. Raises OSError when something stays."""
    if folder.exists():
        shutil.rmtree(folder, onexc=_open_and_retry)


def _open_and_retry(function: Callable[..., Any], path: str, error: BaseException) -> None:
    if isinstance(error, FileNotFoundError):
        return
    if not isinstance(error, PermissionError):
        raise error
    os.chmod(os.path.dirname(path), 0o700)
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, 0o700)
        # What lies in it may be closed as well.
        shutil.rmtree(path, onexc=_open_and_retry)
    else:
        os.unlink(path)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:64]
