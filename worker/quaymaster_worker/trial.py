"""Before the first run: what every run will need is tried once, as its user, and refused by name."""

import asyncio
import secrets
import shutil
import stat
from pathlib import Path

from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.errors import ConfigurationRefused, StartFailed
from quaymaster_worker.executor import Executor
from quaymaster_worker.workspace.folders import StateFolder, remove_folder

LEAST_SPACE = 64 << 20
"""Bytes that the state folder's disk must have left: less holds neither a workspace nor a log."""
_VARIABLE = "QUAYMASTER_STATE_DIR"


async def try_out(folder: StateFolder, executor: Executor, user: RunUser | None) -> None:
    """Make a work folder and start a command in it. Raises ConfigurationRefused, OSError."""
    free = shutil.disk_usage(folder.root).free
    if free < LEAST_SPACE:
        found = f"{folder.root}, whose disk has {free} bytes left"
        raise ConfigurationRefused(_VARIABLE, found, f"a folder on a disk with {LEAST_SPACE} bytes or more")
    work = folder.attempt("trial", 0, secrets.token_hex(8))
    try:
        work.make()
        if user:
            await asyncio.to_thread(work.give_to, user)
        await executor.try_out(work, user)
    except StartFailed as error:
        raise _refusal(folder.root, user, error.note) from None
    finally:
        await asyncio.to_thread(remove_folder, work.root)


def _refusal(root: Path, user: RunUser | None, note: str) -> ConfigurationRefused:
    if user and (closed := _closed_to(root, user)):
        found = f"{root}: {user.name} (uid {user.uid}) cannot enter {closed}"
        return ConfigurationRefused(_VARIABLE, found, "a folder that the user of the runs can reach")
    who = f"{user.name} (uid {user.uid})" if user else "its user"
    return ConfigurationRefused(_VARIABLE, f"{root}, where {who} cannot run a command: {note}", "one where it can")


def _closed_to(folder: Path, user: RunUser) -> Path | None:
    """The first folder on the way that the user may not enter."""
    for path in [*reversed(folder.parents), folder]:
        held = path.stat()
        bit = stat.S_IXUSR if held.st_uid == user.uid else stat.S_IXGRP if held.st_gid == user.gid else stat.S_IXOTH
        if not held.st_mode & bit:
            return path
    return None
