"""The state file: what this agent runs, so that the next agent on this host can remove what a crash leaves.

One file per agent process, locked for as long as the process lives: an unlocked one belongs to a dead agent.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError
from quaymaster.domain.messages import Remains

from quaymaster_worker.processes.marks import Identified, Mark, find, identify, kill_until_gone, marked, tree
from quaymaster_worker.workspace.folders import StateFolder, WorkFolder, remove_folder

log = logging.getLogger("quaymaster.leftovers")


class _Process(BaseModel):
    pid: int
    started: float


class _Entry(BaseModel):
    """One attempt in hand: written before its phase begins, and again once its processes are known."""

    worker_id: str
    run: str
    attempt: int
    folder: Path
    processes: list[_Process] = []


class _State(BaseModel):
    """A state file's content. `spare`: the folder that is made ahead; it holds nothing yet."""

    spare: Path | None = None
    entries: list[_Entry] = []
    remains: list[Remains] = []


@dataclass
class StateFile:
    """This process's state file."""

    path: Path
    descriptor: int
    state: _State = field(default_factory=_State)

    @classmethod
    def create(cls, folder: StateFolder, name: str) -> "StateFile":
        """Make and lock a new one. Raises OSError.

        It gets its name once it is locked: an unlocked file of that name is a dead agent's.
        """
        path, unnamed = folder.agents / f"{name}.json", folder.agents / f"{name}.new"
        descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file = cls(path, descriptor, _State(spare=folder.spare(name).root))
        file.write()
        unnamed.rename(path)
        return file

    @property
    def spare(self) -> WorkFolder | None:
        """The folder that is made ahead for the next attempt, whichever worker gets it."""
        return WorkFolder(self.state.spare) if self.state.spare else None

    def hold(self, worker_id: str, run: str, attempt: int, folder: Path) -> None:
        """An attempt is about to begin. Raises OSError."""
        self.forget(worker_id, write=False)
        self.state.entries.append(_Entry(worker_id=worker_id, run=run, attempt=attempt, folder=folder))
        self.write()

    def name_processes(self, worker_id: str, pids: Sequence[int]) -> None:
        """The attempt's processes are known."""
        for entry in self.state.entries:
            if entry.worker_id == worker_id:
                found = [identify(pid) for pid in pids]
                entry.processes = [_Process(pid=p.pid, started=p.started) for p in found if p]
        self.write()

    def forget(self, worker_id: str, *, write: bool = True) -> None:
        """The worker's attempt has left nothing behind."""
        self.state.entries = [entry for entry in self.state.entries if entry.worker_id != worker_id]
        if write:
            self.write()

    def reported(self) -> None:
        """What earlier agents left is in the table."""
        self.state.remains = []
        self.write()

    def write(self) -> None:
        """Write it down, in place: a rename would lose the lock.

        Not synced: when the host itself crashes, no process is left.
        """
        text = self.state.model_dump_json().encode()
        os.pwrite(self.descriptor, text, 0)
        os.ftruncate(self.descriptor, len(text))

    def close(self) -> None:
        """The agent ends; what it could not report stays for the next one."""
        if self.state.spare:
            remove_folder(self.state.spare)
        if not self.state.entries and not self.state.remains:
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


type RemoveOthers = Callable[[str, int], Awaitable[bool]]


async def nothing_else(run: str, attempt: int) -> bool:
    """Attempts of this host are processes, and nothing else."""
    return True


async def remove_leftovers(
    folder: StateFolder, mine: StateFile, remove_others: RemoveOthers = nothing_else
) -> list[Remains]:
    """Remove what dead agents of this host left; what is gone for sure is returned, and kept until reported.

    `remove_others` removes what an attempt has left beside processes, and says whether it is gone.
    """
    for path in sorted(folder.agents.glob("*.json")):
        if path == mine.path:
            continue
        with _locked(path) as descriptor:
            if descriptor is not None:
                await _take_over(path, descriptor, mine, remove_others)
    await _remove_strays(folder)
    return list(mine.state.remains)


@contextmanager
def _locked(path: Path) -> Generator[int | None]:
    """A dead agent's state file, locked; None for one of a living agent, and for one that is gone.

    Agents that start together all find it: one takes it over, and to the others it is gone.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor if os.fstat(descriptor).st_nlink else None
    finally:
        os.close(descriptor)


async def _remove_strays(folder: StateFolder) -> None:
    """Remove work folders that no state file names: their agent died after their end was reported.

    The folders are listed before the names are read: each was named before it was made.
    """
    found = list(folder.work.iterdir())
    named: set[Path] = set()
    for path in folder.agents.glob("*.json"):
        try:
            state = _State.model_validate_json(path.read_bytes())
            named |= {*(entry.folder for entry in state.entries), *([state.spare] if state.spare else [])}
        except FileNotFoundError:
            # Whoever removed it had removed what it named.
            continue
        except (ValidationError, OSError):
            # Another agent is just writing it; the next start will look again.
            return
    for stray in found:
        if stray not in named:
            await _remove_folder(stray)


async def _remove_folder(folder: Path) -> None:
    try:
        await asyncio.to_thread(remove_folder, folder)
    except OSError as error:
        log.warning("a crashed agent's work folder stays", extra={"folder": folder.name, "error": str(error)})


async def _take_over(path: Path, descriptor: int, mine: StateFile, remove_others: RemoveOthers) -> None:
    try:
        state = _State.model_validate_json(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    except ValidationError:
        log.warning("a state file cannot be read; what its agent ran is unknown", extra={"file": path.name})
        path.unlink(missing_ok=True)
        return
    gone = [entry for entry in state.entries if await _remove(entry) and await remove_others(entry.run, entry.attempt)]
    mine.state.remains += state.remains
    mine.state.remains += [Remains(worker_id=e.worker_id, run=e.run, attempt=e.attempt) for e in gone]
    mine.write()
    if len(gone) == len(state.entries):
        path.unlink(missing_ok=True)


async def _remove(entry: _Entry) -> bool:
    known = [Identified(p.pid, p.started) for p in entry.processes]
    mark = Mark(entry.run, entry.attempt)

    def survivors() -> Sequence[psutil.Process]:
        return tree([*filter(None, map(find, known)), *marked(mark)])

    extra = {"run": entry.run, "attempt": entry.attempt}
    if left := await kill_until_gone(survivors):
        log.error("processes of a crashed agent's run cannot be ended", extra=extra | {"pids": left})
        return False
    log.warning("removed what a crashed agent left", extra=extra)
    await _remove_folder(entry.folder)
    return True
