"""Fetching a packed workspace and unpacking it without trusting it."""

import asyncio
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
from pydantic import TypeAdapter, ValidationError
from quaymaster.domain.fields import EnvironmentName
from quaymaster.domain.messages import WorkspaceGrant
from quaymaster.domain.objects import INPUT_ENVIRONMENT, LEFT_OUTPUTS
from quaymaster.domain.states import Reason
from quaymaster.domain.workspace_rules import Bounds, Gate, NotAdmitted

from quaymaster_worker.connection.uploads import refused
from quaymaster_worker.errors import PreparationFailed, UploadFailed

_ENVIRONMENT: TypeAdapter[dict[EnvironmentName, str]] = TypeAdapter(dict[EnvironmentName, str])
TRIES = 4
TIMEOUT = httpx.Timeout(60, connect=10)


async def fetch(
    client: httpx.AsyncClient, grant: WorkspaceGrant, target: Path, bounds: Bounds, *, what: str = "workspace"
) -> None:
    """Download the packed workspace (or `what` it is) and check its digest. Raises PreparationFailed."""
    pause = 0.5
    for left in reversed(range(TRIES)):
        try:
            digest = await _download(client, grant.url, target, bounds, what)
        except httpx.HTTPError as error:
            if not left:
                raise PreparationFailed(Reason.WORKSPACE, f"cannot fetch the {what}: {_tell(error)}") from None
            await asyncio.sleep(pause)
            pause *= 2
        else:
            if grant.sha256 and digest != grant.sha256:
                raise PreparationFailed(Reason.WORKSPACE, f"the {what} has digest {digest}, not {grant.sha256}")
            return


async def _download(client: httpx.AsyncClient, url: str, target: Path, bounds: Bounds, what: str) -> str:
    digest, size = hashlib.sha256(), 0
    async with client.stream("GET", url, timeout=TIMEOUT) as response:
        if not response.is_success:
            await response.aread()
            answer = refused(response)
            if not isinstance(answer, UploadFailed):
                raise PreparationFailed(Reason.WORKSPACE, f"cannot fetch the {what}: {answer}")
        response.raise_for_status()
        with target.open("wb") as file:
            async for part in response.aiter_raw():
                size += len(part)
                if size > bounds.packed_bytes:
                    raise PreparationFailed(Reason.WORKSPACE, f"the {what} exceeds {bounds.packed_bytes} bytes")
                digest.update(part)
                file.write(part)
    return digest.hexdigest()


def _tell(error: httpx.HTTPError) -> str:
    # The text of httpx's errors may name the URL, which is the grant.
    if isinstance(error, httpx.HTTPStatusError):
        return f"the store answered {error.response.status_code}"
    return type(error).__name__


def unpack(archive: Path, folder: Path, bounds: Bounds, leave_out: Callable[[str], None] | None = None) -> None:
    """Unpack a gzipped tar. Raises PreparationFailed for anything but plain files, folders and links inside it.

    With `leave_out` links that lead elsewhere are left out, and it is told.
    """
    gate = Gate(lambda path: (folder / path).is_symlink(), bounds)

    def admit(member: tarfile.TarInfo, _path: str) -> tarfile.TarInfo | None:
        try:
            kept = gate.admit(member)
        except NotAdmitted as problem:
            if not (leave_out and member.issym()):
                raise
            leave_out(f"left out of the workspace: {problem}")
            return None
        return kept and kept.replace(uid=os.geteuid(), gid=os.getegid(), uname="", gname="", deep=False)

    try:
        with tarfile.open(archive, "r|gz") as tar:
            tar.extractall(folder, filter=admit)
    except (NotAdmitted, tarfile.TarError, EOFError, OSError) as error:
        raise PreparationFailed(Reason.WORKSPACE, f"cannot unpack the workspace: {error}"[:200]) from None
    except (ValueError, OverflowError, zlib.error) as error:
        # What tarfile raises of numbers, dates and names that no system has.
        note = f"cannot unpack the workspace: {type(error).__name__}: {error}"
        raise PreparationFailed(Reason.WORKSPACE, note[:200]) from None


def take_outputs(folder: Path, target: Path) -> None:
    """Put the outputs that earlier phases have left where the next one finds them. Raises OSError."""
    file = folder / LEFT_OUTPUTS
    if file.is_file() and not file.is_symlink():
        file.replace(target)


def take_environment(folder: Path) -> dict[str, str]:
    """The environment that a workspace carries because no message could; its file is gone afterwards.

    Raises PreparationFailed when it is not a JSON object of strings.
    """
    file = folder / INPUT_ENVIRONMENT
    if not file.is_file() or file.is_symlink():
        return {}
    try:
        return _ENVIRONMENT.validate_json(file.read_bytes())
    except ValidationError:
        raise PreparationFailed(Reason.WORKSPACE, f"{INPUT_ENVIRONMENT} is not a JSON object of strings") from None
    finally:
        file.unlink()
