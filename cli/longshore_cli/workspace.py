"""Packing a folder into a workspace, and putting it where the run's worker fetches it."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from longshore.domain.api import PrepareUpload
from longshore.domain.objects import INPUT_ENVIRONMENT
from longshore.domain.requests import Workspace

from longshore_cli.errors import CliError, Usage

if TYPE_CHECKING:
    from longshore_cli.client import ApiClient

_PART = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A packed workspace: a file at its start, its length and its digest."""

    file: IO[bytes]
    size: int
    sha256: str


def pack(folder: Path | None, environment: Mapping[str, str], into: IO[bytes]) -> Packed:
    """Write a gzipped tar of a folder, and of an environment that is too large to travel in the request.

    The same content gives the same bytes: names are sorted, owners and times left out. Nothing is left out of the
    folder. Raises Usage for what a workspace cannot hold (sockets, devices), CliError for what cannot be read.
    """
    with (
        gzip.GzipFile(filename="", fileobj=into, mode="wb", compresslevel=6, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        if environment:
            _add_text(tar, INPUT_ENVIRONMENT, json.dumps(environment, sort_keys=True))
        if folder:
            _add_folder(tar, folder)
    size = into.tell()
    into.seek(0)
    digest = hashlib.file_digest(into, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]
    into.seek(0)
    return Packed(file=into, size=size, sha256=digest)


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    tar.addfile(member, io.BytesIO(content))


def _add_folder(tar: tarfile.TarFile, folder: Path) -> None:
    if not folder.is_dir():
        raise Usage(f"--dir: {folder} is not a folder")
    if (folder / INPUT_ENVIRONMENT).exists():
        raise Usage(f"--dir: {folder} has a file {INPUT_ENVIRONMENT}, a name that workspaces keep for themselves")
    for path in sorted(_walk(folder)):
        name = path.relative_to(folder).as_posix()
        try:
            member = tar.gettarinfo(path, arcname=name)
            if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                raise Usage(f"--dir: {path} is neither a file, a folder nor a link")
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = ""
            if member.isreg():
                with path.open("rb") as file:
                    tar.addfile(member, file)
            else:
                tar.addfile(member)
        except OSError as error:
            raise CliError(f"--dir: cannot read {path}: {error.strerror or error}") from None


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def upload(api: "ApiClient", pool: str, packed: Packed) -> Workspace:
    """Put a packed workspace into the bucket by a presigned PUT. Raises CliError."""
    from longshore_cli.client import readable

    place = api.prepare_upload(PrepareUpload(pool=pool))
    if packed.size > place.max_bytes:
        raise Usage(f"the packed workspace has {packed.size} bytes; at most {place.max_bytes} are taken")
    headers = {"Content-Length": str(packed.size)}
    with readable("the bucket"):
        response = api.plain.put(place.url, content=_parts(packed.file), headers=headers)
    if not response.is_success:
        raise CliError(f"the bucket refused the workspace: {response.status_code} {response.reason_phrase}")
    return Workspace(key=place.key, sha256=packed.sha256)


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    while part := file.read(_PART):
        yield part
