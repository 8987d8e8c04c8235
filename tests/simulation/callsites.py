"""Where the use cases call the store and the cloud, read from their source: what crashes must reach."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FrameType

import quaymaster.dispatcher

DISPATCHER = Path(quaymaster.dispatcher.__file__).parent
HANDLED = (
    "requests.inbox", "workers.worker_events", "workers.task_events", "reaper.due", "reaper.sweep",
    "steering.cancel", "steering.stop", "steering.extend", "steering.confirm",
)  # fmt: skip
"""What the functions call; what these import is reached by them. Modules are named from the dispatcher on."""
PORTS = frozenset({"store", "messenger", "queue", "tasks", "blobs"})
PRESIGNED = frozenset({"grants", "workspace", "upload_url", "download_url"})
"""Calls that call nothing: a URL is signed where one stands."""


class Side(StrEnum):
    """When a function dies of a call: before it was made, or after it was, with its answer unread."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, order=True)
class CallSite:
    """One call of a port's method, as it stands in a module of the use cases."""

    module: str
    line: int
    method: str

    def __str__(self) -> str:
        return f"{self.method} at {self.module.replace('.', '/')}.py:{self.line}"


@cache
def call_sites() -> tuple[CallSite, ...]:
    """Every call of a port by the use cases that the functions reach, in their order."""
    return tuple(sorted(site for module in _reached() for site in _calls(module)))


def _reached() -> set[str]:
    reached: set[str] = set()
    waiting: list[str] = [*HANDLED]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += _imports(module)
    return reached


def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text())


def _file(module: str) -> Path:
    return DISPATCHER.joinpath(*module.split(".")).with_suffix(".py")


def _imports(module: str) -> Iterator[str]:
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("quaymaster.dispatcher."):
            module = node.module.removeprefix("quaymaster.dispatcher.")
            # A name is imported from a module, or a module from its room.
            yield from [module] if _file(module).exists() else [f"{module}.{alias.name}" for alias in node.names]


def _calls(module: str) -> Iterator[CallSite]:
    for node in ast.walk(_tree(module)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        port = node.func.value
        if isinstance(port, ast.Attribute) and port.attr.lstrip("_") in PORTS and node.func.attr not in PRESIGNED:
            yield CallSite(module, node.lineno, f"{port.attr.lstrip('_')}.{node.func.attr}")


def calling_site(method: str) -> CallSite:
    """The call site that the running call of a port comes from."""
    frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame:
        path = frame.f_code.co_filename
        module = _MODULES.get(path)
        if module is None:
            found = Path(path)
            ours = found.is_relative_to(DISPATCHER)
            module = _MODULES[path] = ".".join(found.relative_to(DISPATCHER).with_suffix("").parts) if ours else ""
        if module:
            return CallSite(module, frame.f_lineno, method)
        frame = frame.f_back
    raise LookupError(f"{method} was called by no use case")


_MODULES: dict[str, str] = {}


def check_reachable() -> None:
    """Import what was read, so that a name that is no module fails here."""
    for module in _reached():
        import_module(f"quaymaster.dispatcher.{module}")
