"""Ignore files as git reads them: the deeper file wins, and nothing below an ignored folder comes back."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pathspec import GitIgnoreSpec

from quaymaster_cli.errors import CliError


class Ignored:
    """What the ignore files of a tree leave out. Of several in one folder, the last named wins."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._root = root
        self._names = names
        self._spec = cache(self._read)
        self._folder_ignored = cache(self._decide_folder)

    def covers(self, path: str, *, is_folder: bool) -> bool:
        """Whether a path, relative to the root, is ignored."""
        return self._folder_ignored(path) if is_folder else self._decide(path, is_folder=False)

    def _decide_folder(self, path: str) -> bool:
        return self._decide(path, is_folder=True)

    def _decide(self, path: str, *, is_folder: bool) -> bool:
        parent = path.rpartition("/")[0]
        if parent and self._folder_ignored(parent):
            return True
        below = path + "/" if is_folder else path
        at = parent
        while True:
            spec = self._spec(at)
            decided = spec.check_file(below[len(at) + 1 if at else 0 :]).include if spec else None
            if decided is not None:
                return bool(decided)
            if not at:
                return False
            at = at.rpartition("/")[0]

    def _read(self, folder: str) -> GitIgnoreSpec | None:
        lines: list[str] = []
        for name in self._names:
            file = self._root / folder / name
            lines += (found := _lines(file))
            _refuse_wrong_patterns(file, found)
        return GitIgnoreSpec.from_lines(lines) if lines else None


def _lines(file: Path) -> list[str]:
    """As git takes them: a mark of the encoding and carriage returns do not count, other bytes stand for themselves."""
    try:
        content = file.read_bytes() if file.is_file() else b""
    except OSError as error:
        raise CliError(f"--dir: cannot read {file}: {error.strerror}") from None
    text = content.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    return [line.removesuffix("\r") for line in text.split("\n")]


def _refuse_wrong_patterns(file: Path, lines: Sequence[str]) -> None:
    for number, line in enumerate(lines, 1):
        try:
            GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error):
            # git would skip it, and pack what was meant to stay.
            raise CliError(f"--dir: {file}, line {number}, is not a pattern: {line!r}") from None
