"""Fetching a packed workspace and unpacking it without trusting it."""

import asyncio
import hashlib
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import httpx
from longshore.domain.messages import WorkspaceGrant
from longshore.domain.objects import INPUT_ENVIRONMENT
from longshore.domain.requests import EnvironmentName
from longshore.domain.states import Reason
from pydantic import TypeAdapter, ValidationError

from longshore_worker.errors import PreparationFailed, UploadFailed
from longshore_worker.uploads import refused

_ENVIRONMENT: TypeAdapter[dict[EnvironmentName, str]] = TypeAdapter(dict[EnvironmentName, str])
TRIES = 4
TIMEOUT = httpx.Timeout(60, connect=10)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a workspace may be, packed and unpacked."""

    packed_bytes: int = 2 << 30
    unpacked_bytes: int = 8 << 30
    members: int = 500_000
    path_characters: int = 1024


class _WorkspaceRefused(ValueError):
    """A member that is not unpacked, and why."""


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


def unpack(archive: Path, folder: Path, bounds: Bounds) -> None:
    """Unpack a gzipped tar. Raises PreparationFailed for anything but plain files, folders and links inside it."""
    gate = _Gate(folder, bounds)
    try:
        with tarfile.open(archive, "r|gz") as tar:
            tar.extractall(folder, filter=gate.admit)
    except (_WorkspaceRefused, tarfile.TarError, EOFError, OSError) as error:
        raise PreparationFailed(Reason.WORKSPACE, f"cannot unpack the workspace: {error}"[:200]) from None
    except (ValueError, OverflowError, zlib.error) as error:
        # What tarfile raises of numbers, dates and names that no system has.
        note = f"cannot unpack the workspace: {type(error).__name__}: {error}"
        raise PreparationFailed(Reason.WORKSPACE, note[:200]) from None


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


class _Gate:
    """Admits members one by one, just before each is written.

    Stricter than tarfile's own filter, which several advisories have got around with chains of links: nothing is
    ever written through a link, and a link's target has `..` only in front, so that names mean what they say.
    """

    def __init__(self, folder: Path, bounds: Bounds) -> None:
        self._folder = folder
        self._bounds = bounds
        self._members = 0
        self._bytes = 0

    def admit(self, member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        """The member as it may be written, None for the folder itself. Raises _WorkspaceRefused."""
        self._count(member)
        name = self._inside(member.name, member.name)
        if not name.parts:
            return None
        self._refuse_links_on_the_way(name, member.name)
        if member.issym():
            self._refuse_target(name, member)
        elif member.islnk():
            target = self._inside(member.linkname, member.name)
            self._refuse_links_on_the_way(target / "x", member.name)
            return member.replace(name=str(name), linkname=str(target), deep=False)
        elif not (member.isreg() or member.isdir()):
            raise _WorkspaceRefused(f"{member.name!r} is neither a file, a folder nor a link")
        mode = 0o755 if member.isdir() else (member.mode & 0o755) | 0o600
        owner, group = os.geteuid(), os.getegid()
        return member.replace(name=str(name), mode=mode, uid=owner, gid=group, uname="", gname="", deep=False)

    def _count(self, member: tarfile.TarInfo) -> None:
        self._members += 1
        self._bytes += member.size if member.isreg() else 0
        if self._members > self._bounds.members:
            raise _WorkspaceRefused(f"more than {self._bounds.members} members")
        if self._bytes > self._bounds.unpacked_bytes:
            raise _WorkspaceRefused(f"more than {self._bounds.unpacked_bytes} bytes unpacked")

    def _inside(self, text: str, member: str) -> PurePosixPath:
        name = PurePosixPath(text)
        if len(text) > self._bounds.path_characters or "\0" in text:
            raise _WorkspaceRefused(f"{member[:64]!r}… has a path too long or unreadable")
        if name.is_absolute() or ".." in name.parts:
            raise _WorkspaceRefused(f"{member!r} leads outside the workspace")
        return name

    def _refuse_links_on_the_way(self, name: PurePosixPath, member: str) -> None:
        at = self._folder
        for part in name.parts[:-1]:
            at = at / part
            if at.is_symlink():
                raise _WorkspaceRefused(f"{member!r} leads through the link {part!r}")

    def _refuse_target(self, name: PurePosixPath, member: tarfile.TarInfo) -> None:
        target = PurePosixPath(member.linkname)
        ups = len(target.parts) - len(list(_without_leading_ups(target)))
        rest = list(_without_leading_ups(target))
        if target.is_absolute() or ups > len(name.parts) - 1 or ".." in rest:
            raise _WorkspaceRefused(f"{member.name!r} links outside the workspace")
        if len(member.linkname) > self._bounds.path_characters or "\0" in member.linkname:
            raise _WorkspaceRefused(f"{member.name!r} links to a path too long or unreadable")


def _without_leading_ups(path: PurePosixPath) -> list[str]:
    parts = list(path.parts)
    while parts and parts[0] == os.pardir:
        parts.pop(0)
    return parts
