"""The map in `docs/architecture.md`: every room is on it, every file that it names is there, and rooms stay small."""

import re
from pathlib import Path

import pytest

from tests.shared.cloudformation import REPOSITORY

PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = PAGE.partition("\n## Rooms\n")[2].partition("\n## ")[0]
CORE = "layers/quaymaster/quaymaster/"
ROOTS = (
    CORE,
    "worker/quaymaster_worker/",
    "cli/quaymaster_cli/",
    "local/quaymaster_local/",
    "sealing/quaymaster_sealing/",
)
MOST = 10
"""So many modules a room may have; beyond about eight its folder no longer explains itself."""
LONG_CORRIDORS = frozenset({f"{CORE}domain", "local/quaymaster_local/demo"})
"""One subject each, whose names are the words of the glossary, and of the demo's screen."""


def packages() -> list[str]:
    """Every folder with modules of ours, from the repository on."""
    files = (file for root in ROOTS for file in (REPOSITORY / root).rglob("__init__.py"))
    return sorted(str(file.parent.relative_to(REPOSITORY)) for file in files)


def named() -> list[str]:
    """What the map names: files, and folders with a slash at their end."""
    return [name for name in re.findall(r"`([^`\s]+)`", ROOMS) if "/" in name or name.endswith((".py", ".yaml"))]


@pytest.mark.parametrize("name", sorted(set(named())))
def test_what_the_map_names_is_there(name: str) -> None:
    where = [REPOSITORY / name, REPOSITORY / CORE / name, REPOSITORY / CORE / "dispatcher" / name]
    where += [REPOSITORY / "worker/quaymaster_worker" / name] * (name == "agent.py")
    assert any(path.exists() for path in where) or name in ("__init__.py", "commands.py")


def test_every_room_is_on_the_map() -> None:
    known = {f"{root}{name}".rstrip("/") for name in named() for root in ("", CORE)}
    known |= {root.rstrip("/") for root in ROOTS}
    # The adapters' own folder holds rooms only.
    assert [room for room in packages() if room not in known and room != f"{CORE}adapters"] == []


@pytest.mark.parametrize("room", packages())
def test_a_room_says_what_happens_in_it_and_stays_small(room: str) -> None:
    folder = REPOSITORY / room
    first = (folder / "__init__.py").read_text(encoding="utf-8").splitlines()[:1]
    assert first, f"{room}/__init__.py is empty"
    assert first[0].startswith('"""')
    modules = [file for file in folder.glob("*.py") if not file.name.startswith("__")]
    assert len(modules) <= MOST or room in LONG_CORRIDORS or Path(room).parent.name in ("worker", "cli", "local")


def test_the_table_of_changes_is_worth_its_place() -> None:
    rows = [line for line in ROOMS.partition("### To change something")[2].splitlines() if line.startswith("| ")]
    assert len(rows) - 2 >= 20
