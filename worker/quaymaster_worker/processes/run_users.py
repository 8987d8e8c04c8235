"""Who phases run as: where the agent is root, every worker of the host has a uid of its own."""

import fcntl
import grp
import os
import pwd
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from quaymaster_worker.configuration.settings import RunUser, Settings
from quaymaster_worker.errors import ConfigurationRefused

LOCKS = Path("/run/quaymaster/uids")
"""One file for each uid that an agent of this host has taken, locked for as long as the agent lives."""
OURS = "quaymaster"
"""Users of the range whose names begin so are meant for phases; any other makes its uid not free."""


class RunUsers:
    """Takes users for workers, and gives them back when it is closed."""

    def __init__(self, settings: Settings, locks: Path = LOCKS) -> None:
        self._settings = settings
        self._locks = locks
        self._taken = ExitStack()

    def choose(self, count: int) -> Sequence[RunUser | None]:
        """A user for each worker; None: the agent's own. Raises ConfigurationRefused, which says what is not free."""
        chosen, uids = self._settings.run_user, self._settings.run_uids
        if chosen and count > 1 and uids is not None:
            found = f"{chosen.name!r} for {count} workers"
            raise ConfigurationRefused("QUAYMASTER_RUN_USER", found, "one worker; of several each has a uid of its own")
        if chosen or uids is None:
            return [chosen] * count
        users = self._free(uids, count)
        if len(users) < count:
            found = f"{uids.start}-{uids.stop - 1}, of which {len(users)} are free"
            raise ConfigurationRefused("QUAYMASTER_RUN_UIDS", found, f"a range with {count} uids that nobody uses")
        return users

    def close(self) -> None:
        """Others may take them."""
        self._taken.close()

    def _free(self, uids: range, count: int) -> list[RunUser]:
        busy = _uids_of_processes()
        found: list[RunUser] = []
        for uid in uids:
            if len(found) == count:
                break
            name = _name(uid)
            if name and uid not in busy and self._lock(uid):
                found.append(RunUser(name=name, uid=uid, gid=uid))
        return found

    def _lock(self, uid: int) -> bool:
        path = self._locks / str(uid)
        try:
            self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigurationRefused(
                "QUAYMASTER_RUN_UIDS", f"{path} ({error.strerror})", "a host with /run"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        if not os.fstat(descriptor).st_nlink:
            # Another agent has just given it back.
            os.close(descriptor)
            return self._lock(uid)
        self._taken.callback(os.close, descriptor)
        self._taken.callback(path.unlink, missing_ok=True)
        return True


def _name(uid: int) -> str | None:
    """What to call the user of a uid; None for one that is somebody else's."""
    with suppress(KeyError):
        if not grp.getgrgid(uid).gr_name.startswith(OURS):
            return None
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"{OURS}-{uid}"
    return name if name.startswith(OURS) else None


def _uids_of_processes() -> set[int]:
    found: set[int] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found |= set(process.uids())
    return found
