"""Which paths of a folder are packed: in a git checkout what git would take, elsewhere what no ignore file names."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quaymaster_cli.errors import CliError
from quaymaster_cli.workspace.ignoring import Ignored

GIT = ".git"
GIT_IGNORE, OWN_IGNORE = ".gitignore", ".quaymasterignore"
# Set where a git hook starts us; they would lead git to another checkout than the folder's.
_HOOK_VARIABLES = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"})


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A folder, and what is packed of it beside the usual; `keys` are private keys that are no pool's."""

    folder: Path
    everything: bool = False
    git: bool = False
    keys: tuple[Path, ...] = ()


def select(wish: Wish) -> list[str]:
    """The paths to pack, relative to the folder, each behind the folder that it lies in. Raises CliError."""
    folder = wish.folder
    if wish.everything:
        found = set(_walk(folder, "", None))
    elif _is_checkout(folder):
        ignored = Ignored(folder, [OWN_IGNORE])
        found = {path for path in _tracked(folder, "") if not ignored.covers(path, is_folder=_is_folder(folder / path))}
    else:
        found = set(_walk(folder, "", Ignored(folder, [GIT_IGNORE, OWN_IGNORE])))
    if wish.git and os.path.lexists(folder / GIT):
        found |= {GIT, *_walk(folder, GIT, None)}
    folders = {parent for path in found for parent in _parents(path)}
    # As parts, so that a folder's paths follow it at once.
    return sorted(found | folders, key=lambda path: path.split("/"))


def _walk(root: Path, below: str, ignored: Ignored | None) -> Iterator[str]:
    """All paths below a folder; `.git` only where it is the folder itself."""
    if below and not _is_folder(root / below):
        return
    try:
        with os.scandir(root / below) as found:
            entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    except OSError as error:
        raise CliError(f"--dir: cannot read {root / below}: {error.strerror}") from None
    for name, folder in entries:
        path = f"{below}/{name}" if below else name
        if (name == GIT and not below.startswith(GIT)) or (ignored and ignored.covers(path, is_folder=folder)):
            continue
        yield path
        if folder:
            yield from _walk(root, path, ignored)


def _is_checkout(folder: Path) -> bool:
    """Whether git knows the folder, and does not ignore it: whoever names an ignored folder wants what is in it."""
    above = [folder.resolve(), *folder.resolve().parents]
    if not shutil.which("git") or not any(os.path.lexists(one / GIT) for one in above):
        return False
    return _git(folder, "check-ignore", "--quiet", ".").returncode != 0


def _tracked(root: Path, below: str) -> Iterator[str]:
    """Tracked files, and untracked ones that are not ignored, those of submodules and checkouts inside too."""
    done = _git(root / below, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise CliError(f"--dir: git cannot list {root / below} ({said}); --all packs it without asking git")
    for name in {os.fsdecode(one).rstrip("/") for one in done.stdout.split(b"\0") if one}:
        path = f"{below}/{name}" if below else name
        if os.path.lexists(root / path):
            yield path
        if _is_folder(root / path) and os.path.lexists(root / path / GIT):
            yield from _tracked(root, path)


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in _HOOK_VARIABLES}
    # Only `git` itself, which the user has on PATH as well as this command.
    return subprocess.run(
        ["git", "-C", str(folder), *words],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=environment | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"},
        check=False,
    )


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
