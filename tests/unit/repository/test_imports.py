"""Imports point one way: functions, local → api, wiring → dispatcher → ports, domain; adapters → ports, domain."""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = {
    "functions": ROOT / "functions",
    "quaymaster": ROOT / "layers/quaymaster/quaymaster",
    "quaymaster_sealing": ROOT / "sealing/quaymaster_sealing",
    "quaymaster_worker": ROOT / "worker/quaymaster_worker",
    "quaymaster_cli": ROOT / "cli/quaymaster_cli",
    "quaymaster_local": ROOT / "local/quaymaster_local",
}
CORE = frozenset({"domain", "errors"})
ALLOWED: Mapping[str, frozenset[str]] = {
    "domain": CORE,
    "errors": CORE,
    "settings": CORE | {"settings"},
    "ports": CORE | {"ports"},
    "dispatcher": CORE | {"ports", "dispatcher"},
    "adapters": CORE | {"ports", "adapters"},
    "api": CORE | {"ports", "dispatcher", "api"},
    "wiring": CORE | {"ports", "dispatcher", "adapters", "settings", "wiring"},
    "functions": CORE | {"ports", "dispatcher", "api", "settings", "wiring"},
    "quaymaster_sealing": frozenset({"quaymaster_sealing"}),
    "quaymaster_worker": CORE | {"quaymaster_sealing", "quaymaster_worker"},
    "quaymaster_cli": CORE | {"quaymaster_sealing", "quaymaster_cli"},
    # The local cloud runs the built artifact; of the source it needs the names of things only.
    "quaymaster_local": CORE | {"quaymaster_sealing", "quaymaster_local"},
}
"""The parts of the system that each part may import. The CLI may offer the local cloud, where it is installed."""
OPTIONAL = {("quaymaster_cli", "quaymaster_local")}

PURE: Mapping[str, frozenset[str]] = {
    "domain": frozenset({"pydantic"}),
    "errors": frozenset(),
    "ports": frozenset(),
    "dispatcher": frozenset({"pydantic"}),
    "settings": frozenset({"pydantic"}),
}
"""What these parts may use that is not Python's own: no part that decides knows AWS."""
CLOUD_SIDE = frozenset(part for part in ALLOWED if not part.startswith("quaymaster_"))
IMPURE_MODULES = frozenset({"random", "secrets", "time", "os", "socket", "subprocess", "urllib.request", "http.client"})


def part_of(module: str) -> str | None:
    """The part of the system that a module belongs to; None for what is not ours."""
    package, _, rest = module.partition(".")
    if package == "quaymaster":
        # The package itself holds the version only.
        return None if rest in ("", "__version__") else rest.partition(".")[0]
    return package if package in SOURCES else None


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, wherever in it, with its line; those for type checking only left out."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}:{node.lineno} is a relative import"
            # `from quaymaster import wiring` imports a module of another part.
            names = [
                f"{node.module}.{alias.name}" if node.module == "quaymaster" else node.module for alias in node.names
            ]
            yield from ((node.lineno, name) for name in names)


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of ours, with the part that it belongs to."""
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            below = path.relative_to(folder).parts[0].removesuffix(".py")
            yield (below if package == "quaymaster" and below != "__init__" else package), path


MODULES = [pytest.param(part, path, id=str(path.relative_to(ROOT))) for part, path in modules()]


def test_every_package_is_looked_at() -> None:
    assert {path for path in SOURCES.values() if not any(path.rglob("*.py"))} == set()
    assert len(MODULES) > 80


@pytest.mark.parametrize(("part", "path"), MODULES)
def test_a_module_imports_only_what_its_part_may(part: str, path: Path) -> None:
    allowed = ALLOWED.get(part, frozenset())
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for line, module in imports(path)
        if (imported := part_of(module)) and imported not in allowed and (part, imported) not in OPTIONAL
    ]
    assert wrong == []


@pytest.mark.parametrize(("part", "path"), [one for one in MODULES if one.values[0] in PURE])
def test_what_decides_knows_no_cloud(part: str, path: Path) -> None:
    foreign = {
        module.partition(".")[0]
        for _, module in imports(path)
        if not part_of(module) and module.partition(".")[0] not in sys.stdlib_module_names
    }
    assert foreign <= PURE[part]


@pytest.mark.parametrize(("part", "path"), [one for one in MODULES if one.values[0] == "domain"])
def test_the_domain_has_no_clock_no_randomness_and_no_io(part: str, path: Path) -> None:
    assert {module for _, module in imports(path)} & IMPURE_MODULES == set()
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert [call for call in calls if call in ("open", "print", "input") or call.endswith((".now", ".today"))] == []


@pytest.mark.parametrize(("part", "path"), [one for one in MODULES if one.values[0] in CLOUD_SIDE])
def test_the_environment_of_a_function_is_read_in_the_wiring_only(part: str, path: Path) -> None:
    names = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert part == "wiring" or names.isdisjoint({"os.environ", "os.getenv"})
