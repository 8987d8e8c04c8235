"""What a workspace may hold: the requester checks it before it is sent, and the worker before it is unpacked."""

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

PARENT = ".."
PERMISSIONS = 0o777
"""Of a mode, what is kept: no setuid, setgid or sticky bit."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a workspace may be, packed and unpacked; `outside` are folders elsewhere that its links may lead to."""

    packed_bytes: int = 2 << 30
    unpacked_bytes: int = 8 << 30
    members: int = 500_000
    path_bytes: int = 1024
    outside: tuple[str, ...] = ()


class NotAdmitted(ValueError):
    """A member that no workspace may have; the text names it and says why."""


class Gate:
    """Admits members one by one, in the order of the archive.

    Stricter than tarfile's own filter, which several advisories have got around with chains of links: nothing is
    ever written through a link, and a link's target has `..` only in front, so that names mean what they say.
    `is_link` says whether a path of the workspace is a symbolic link by now.
    """

    def __init__(self, is_link: Callable[[PurePosixPath], bool], bounds: Bounds) -> None:
        self._is_link = is_link
        self._bounds = bounds
        self._members = 0
        self._bytes = 0

    def admit(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """The member as it is kept, None for the folder itself. Raises NotAdmitted."""
        self._count(member)
        name = self._inside(member.name, member.name)
        if not name.parts:
            return None
        self._refuse_links_on_the_way(name, member.name)
        target = member.linkname
        if member.issym():
            self._check_target(name, member)
        elif member.islnk():
            inside = self._inside(member.linkname, member.name)
            self._refuse_links_on_the_way(inside / "x", member.name)
            target = str(inside)
        elif not (member.isreg() or member.isdir()):
            raise NotAdmitted(f"{_show(member.name)} is neither a file, a folder nor a link")
        return member.replace(name=str(name), linkname=target, mode=member.mode & PERMISSIONS, deep=False)

    def _count(self, member: tarfile.TarInfo) -> None:
        self._members += 1
        self._bytes += member.size if member.isreg() else 0
        if self._members > self._bounds.members:
            raise NotAdmitted(f"more than {self._bounds.members} members")
        if self._bytes > self._bounds.unpacked_bytes:
            raise NotAdmitted(f"more than {self._bounds.unpacked_bytes} bytes unpacked")

    def _inside(self, text: str, member: str) -> PurePosixPath:
        name = PurePosixPath(text)
        if "\0" in text or self._too_long(text):
            raise NotAdmitted(f"{_show(member)} has a path with NUL or of over {self._bounds.path_bytes} bytes")
        if name.is_absolute() or PARENT in name.parts:
            raise NotAdmitted(f"{_show(member)} leads outside the workspace")
        return name

    def _refuse_links_on_the_way(self, name: PurePosixPath, member: str) -> None:
        for folder in reversed(name.parents):
            if folder.parts and self._is_link(folder):
                raise NotAdmitted(f"{_show(member)} leads through the link {_show(str(folder))}")

    def _check_target(self, name: PurePosixPath, member: tarfile.TarInfo) -> None:
        target = PurePosixPath(member.linkname)
        ups = 0
        while ups < len(target.parts) and target.parts[ups] == PARENT:
            ups += 1
        shown = f"{_show(member.name)} links to {_show(member.linkname)}"
        if target.is_absolute():
            if PARENT in target.parts or not any(target.is_relative_to(folder) for folder in self._bounds.outside):
                raise NotAdmitted(f"{shown}, an absolute path")
            return
        if ups > len(name.parts) - 1:
            raise NotAdmitted(f"{shown}, outside the workspace")
        if PARENT in target.parts[ups:]:
            raise NotAdmitted(f"{shown}, which has '..' behind a name")
        if "\0" in member.linkname or self._too_long(member.linkname):
            raise NotAdmitted(f"{shown}, a path with NUL or of over {self._bounds.path_bytes} bytes")

    def _too_long(self, path: str) -> bool:
        return len(path.encode(errors="surrogateescape")) > self._bounds.path_bytes


def _show(path: str) -> str:
    return repr(path if len(path) <= 80 else path[:79] + "…")
