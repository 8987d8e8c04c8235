"""Packing the workspace that an attempt leaves for a later one, so that `unpacking` admits all that is in it.

The commands of the attempt have written it, so it is not trusted: links are not followed, and what belongs to others
is not read, because a hard link may lead to it.
"""

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from quaymaster.domain.messages import Packed
from quaymaster.domain.objects import INPUT_ENVIRONMENT, LEFT_OUTPUTS
from quaymaster.domain.workspace_rules import PERMISSIONS, Bounds, Gate, NotAdmitted

from quaymaster_worker.errors import PackingFailed

PIECE = 1 << 20
OWN = frozenset({INPUT_ENVIRONMENT, LEFT_OUTPUTS})
"""Members that the agent writes itself."""


def pack(
    folder: Path, beside: Mapping[str, bytes], archive: Path, owner: int, bounds: Bounds, say: Callable[[str], None]
) -> Packed:
    """Write a gzipped tar of a folder, and of files beside it, in bounded memory.

    What no workspace may hold, and what is not the owner's, is left out, which `say` is told. Raises PackingFailed for
    a workspace that is too large or cannot be read.
    """
    links: set[str] = set()
    gate = Gate(lambda path: str(path) in links, bounds)
    try:
        with archive.open("wb") as file:
            counted = _Counted(file, bounds.packed_bytes)
            with (
                gzip.GzipFile(filename="", fileobj=counted, mode="wb", compresslevel=6, mtime=0) as compressed,
                tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
            ):
                for path in _walk(folder):
                    _add(tar, folder, path, owner, gate, links, say)
                for name, body in beside.items():
                    member = tarfile.TarInfo(name)
                    member.size, member.mode = len(body), 0o600
                    tar.addfile(member, io.BytesIO(body))
    except OSError as error:
        raise PackingFailed(f"cannot pack the workspace: {error.strerror or error}") from None
    return Packed(sha256=counted.sha256.hexdigest(), bytes=counted.size)


def read_pieces(archive: Path) -> Iterator[bytes]:
    """The archive's bytes, piece by piece."""
    with archive.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _walk(folder: Path) -> Iterator[str]:
    """All that is in the folder, relative to it, a folder before what it holds. Raises OSError."""
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with os.scandir(folder / above) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            path = f"{above}/{entry.name}" if above else entry.name
            yield path
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)


def _add(
    tar: tarfile.TarFile,
    folder: Path,
    path: str,
    owner: int,
    gate: Gate,
    links: set[str],
    say: Callable[[str], None],
) -> None:
    if path in OWN:
        return
    whole = folder / path
    found = os.lstat(whole)
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        say(f"left out of the workspace: {path!r} is a socket, a pipe or a device")
        return
    if found.st_uid != owner:
        say(f"left out of the workspace: {path!r} is not the command's own")
        return
    member = tar.gettarinfo(whole, arcname=path)
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode &= PERMISSIONS
    try:
        gate.admit(member)
    except NotAdmitted as problem:
        if not member.issym():
            raise PackingFailed(f"cannot pack the workspace: {problem}") from None
        say(f"left out of the workspace: {problem}")
        return
    if member.issym():
        links.add(str(PurePosixPath(path)))
    if member.isreg():
        with os.fdopen(os.open(whole, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            tar.addfile(member, file)
    else:
        tar.addfile(member)


class _Counted(io.RawIOBase):
    """A file that knows the length and the digest of what is written to it, and takes no more than so much."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._most = most
        self.size = 0
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | memoryview", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.size += len(data)
        if self.size > self._most:
            raise PackingFailed(f"the packed workspace exceeds {self._most} bytes")
        self.sha256.update(data)
        self._file.write(data)
        return len(data)
