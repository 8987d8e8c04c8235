"""Packing a folder into a workspace, after everything in it was checked by the rules that its worker has."""

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from quaymaster.domain.objects import INPUT_ENVIRONMENT
from quaymaster.domain.workspace_rules import PERMISSIONS, Bounds, Gate, NotAdmitted

from quaymaster_cli.errors import CliError, Usage
from quaymaster_cli.workspace.pool_secrets import KEY, agents_files, secret_in
from quaymaster_cli.workspace.progress import Progress
from quaymaster_cli.workspace.selection import Wish, select

TOLD = 3
"""So many things that cannot be packed are named in one error."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A packed workspace: a file at its start, its length and its digest."""

    file: IO[bytes]
    size: int
    sha256: str


def pack(
    wish: Wish | None,
    environment: Mapping[str, str],
    into: IO[bytes],
    note: Callable[[str], None],
    bounds: Bounds | None = None,
) -> Packed:
    """Write a gzipped tar of a folder, and of an environment that is too large to travel in the request.

    Names, modes, times and links are kept, owners are not; the same tree gives the same bytes. Sockets, pipes and
    devices are left out, which `note` is told. Raises Usage for what no workspace may hold and CliError for what
    cannot be read, before anything is written.
    """
    members = _members(wish, note, bounds or Bounds()) if wish else []
    with (
        gzip.GzipFile(filename="", fileobj=into, mode="wb", compresslevel=6, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        if environment:
            _add_text(tar, INPUT_ENVIRONMENT, json.dumps(environment, sort_keys=True))
        if wish:
            _add_members(tar, wish.folder, members)
    size = into.tell()
    into.seek(0)
    digest = hashlib.file_digest(into, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]
    into.seek(0)
    return Packed(file=into, size=size, sha256=digest)


def _members(wish: Wish, note: Callable[[str], None], bounds: Bounds) -> list[tarfile.TarInfo]:
    """What is packed, each checked. Raises Usage, CliError."""
    folder = wish.folder
    if not folder.is_dir():
        raise Usage(f"--dir: {folder} is not a folder")
    paths = select(wish)
    if INPUT_ENVIRONMENT in paths:
        raise Usage(f"--dir: {folder} has a file {INPUT_ENVIRONMENT}, a name that workspaces keep for themselves")
    members = list(_described(folder, paths, note))
    links = {member.name for member in members if member.issym()}
    _refuse(_problems(Gate(lambda path: str(path) in links, bounds), members))
    _refuse(_secrets(wish, members))
    return members


def _described(folder: Path, paths: Sequence[str], note: Callable[[str], None]) -> Iterator[tarfile.TarInfo]:
    # It only remembers which files are hard links to which.
    known = tarfile.TarFile(fileobj=io.BytesIO(), mode="w")
    with Progress("looking through", total_files=len(paths)) as progress:
        for path in paths:
            whole = os.path.join(folder, path)
            progress.add(0, files=1)
            with _reading(whole):
                kind = os.lstat(whole).st_mode
                if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind)):
                    note(f"left out: {whole} is a socket, a pipe or a device")
                    continue
                member = known.gettarinfo(whole, arcname=path)
                if member.isreg():
                    # Known before anything is packed, and by name.
                    os.close(os.open(whole, os.O_RDONLY | os.O_NOFOLLOW))
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mode &= PERMISSIONS
            yield member


def _problems(gate: Gate, members: Sequence[tarfile.TarInfo]) -> Iterator[str]:
    for member in members:
        try:
            gate.admit(member)
        except NotAdmitted as problem:
            yield str(problem)


def _secrets(wish: Wish, members: Sequence[tarfile.TarInfo]) -> Iterator[str]:
    agents = agents_files(os.environ)
    allowed = {os.path.realpath(key) for key in wish.keys}
    with Progress("looking for keys", _total(members), total_files=len(members)) as progress:
        for member in members:
            progress.add(member.size if member.isreg() else 0, files=1)
            path = wish.folder / member.name
            with _reading(path):
                found = secret_in(path, member.size) if member.isreg() else None
            if found is None:
                continue
            real = os.path.realpath(path)
            if real in agents or found != KEY:
                yield f"{path} holds {found}, which no workspace may carry: move it out of the folder"
            elif real not in allowed:
                why = "move it out, or list it in .quaymasterignore, or --with-key if no pool's"
                yield f"{path} holds a private key: {why}"


def _total(members: Sequence[tarfile.TarInfo]) -> int:
    return sum(member.size for member in members if member.isreg())


def _refuse(problems: Iterator[str]) -> None:
    """Raises Usage for the first few problems, if there is one."""
    found = [problem for problem, _ in zip(problems, range(TOLD + 1), strict=False)]
    if found:
        raise Usage(f"--dir: {'; '.join(found[:TOLD])}" + ("; and more" if len(found) > TOLD else ""))


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    tar.addfile(member, io.BytesIO(content))


def _add_members(tar: tarfile.TarFile, folder: Path, members: Sequence[tarfile.TarInfo]) -> None:
    with Progress("packing", _total(members), total_files=len(members)) as progress:
        for member in members:
            _add_member(tar, folder / member.name, member, progress)
            progress.add(0, files=1)


def _add_member(tar: tarfile.TarFile, path: Path, member: tarfile.TarInfo, progress: Progress) -> None:
    try:
        if not member.isreg():
            tar.addfile(member)
            return
        with _reading(path):
            file = path.open("rb")
        with file:
            tar.addfile(member, cast(IO[bytes], _Told(file, path, progress)))
    except OSError as error:
        # tarfile's own error, of a file that has become shorter, has no number.
        told = f"cannot pack it: {error.strerror}" if error.errno else f"{path} changed while it was read"
        raise CliError(f"--dir: {told}") from None


@dataclass(frozen=True)
class _Told:
    """A file that tells what has been read of it."""

    file: IO[bytes]
    path: Path
    progress: Progress

    def read(self, size: int = -1) -> bytes:
        """Read on. Raises CliError."""
        with _reading(self.path):
            part = self.file.read(size)
        self.progress.add(len(part))
        return part


@contextmanager
def _reading(path: Path | str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise CliError(f"--dir: cannot read {path}: {error.strerror}") from None
