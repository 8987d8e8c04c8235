"""A run as a document: the same request that is sent over SQS, in YAML or JSON, with a line for each complaint.

Read as YAML 1.2 has it, where `yes` and `on` are words; a field that is there twice, and an alias, are refused.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from quaymaster.domain.requests import MAX_REQUEST_BYTES
from quaymaster.errors import Refused
from quaymaster.telling import describe_field

from quaymaster_cli.errors import Usage

STDIN = "-"
_WHOLE = re.compile(r"[-+]?[0-9]+")
_BROKEN = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, bool | None] = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a document says, and where each field of it stands."""

    name: str
    fields: Mapping[str, Any]
    lines: Mapping[tuple[str, ...], int]

    def at(self, refused: Refused) -> Usage:
        """The complaint with the line of what it is about."""
        path = tuple(refused.field.split("."))
        while path and path not in self.lines:
            path = path[:-1]
        return Usage(f"{self.name}:{self.lines[path]}: {refused}" if path else f"{self.name}: {refused}")


def read_document(file: Path) -> Document:
    """A document's fields, not yet checked. Raises Usage."""
    name = "standard input" if str(file) == STDIN else str(file)
    try:
        body = sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1) if str(file) == STDIN else _read(file)
    except OSError as error:
        raise Usage(f"{name}: {error.strerror}") from None
    if len(body) > MAX_REQUEST_BYTES:
        raise Usage(f"{name}: over {MAX_REQUEST_BYTES} bytes; send large inputs with --dir")
    try:
        # Its stub leaves the stream's type open.
        node = cast("yaml.Node | None", yaml.compose(body, Loader=yaml.SafeLoader))  # pyright: ignore[reportUnknownMemberType]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Usage(f"{name}:{line}: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise Usage(f"{name}: this is no YAML") from None
    if not isinstance(node, yaml.MappingNode):
        raise Usage(f"{name}: a request's fields are expected, like `pool: red`")
    reader = _Reader(name)
    return Document(name=name, fields=reader.mapping(node, ()), lines=reader.lines)


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_REQUEST_BYTES + 1)


class _Reader:
    """From nodes to values."""

    def __init__(self, name: str) -> None:
        self.lines: dict[tuple[str, ...], int] = {}
        self._name = name
        self._seen: set[int] = set()

    def mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if not isinstance(name, str):
                raise self._complaint(key, "a field's name is text")
            if name in found:
                raise self._complaint(key, f"{describe_field(name)} is there twice")
            self.lines[(*path, name)] = key.start_mark.line + 1
            found[name] = self._value(value, (*path, name))
        return found

    def _value(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        if id(node) in self._seen:
            raise self._complaint(node, "an alias is not read here: write it out")
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node.value, path)
        return _scalar(node.value, plain=not node.style) if isinstance(node, yaml.ScalarNode) else None

    def _sequence(self, nodes: Sequence[yaml.Node], path: tuple[str, ...]) -> list[Any]:
        found: list[Any] = []
        for number, node in enumerate(nodes):
            here = (*path, str(number))
            self.lines[here] = node.start_mark.line + 1
            found.append(self._value(node, here))
        return found

    def _complaint(self, node: yaml.Node, what: str) -> Usage:
        return Usage(f"{self._name}:{node.start_mark.line + 1}: {what}")


def _scalar(text: str, *, plain: bool) -> Any:
    if not plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text) if len(text) < 20 else text
    return float(text) if _BROKEN.fullmatch(text) else text
