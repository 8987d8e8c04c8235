"""Who may import whom is declared in pyproject.toml, for import-linter; what that cannot say is checked here."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.shared.cloudformation import REPOSITORY

CORE = REPOSITORY / "layers/quaymaster/quaymaster"
SOURCES = {
    "functions": REPOSITORY / "functions",
    "quaymaster": CORE,
    "quaymaster_sealing": REPOSITORY / "sealing/quaymaster_sealing",
    "quaymaster_worker": REPOSITORY / "worker/quaymaster_worker",
    "quaymaster_cli": REPOSITORY / "cli/quaymaster_cli",
    "quaymaster_local": REPOSITORY / "local/quaymaster_local",
}
PURE: Mapping[str, frozenset[str]] = {
    "domain": frozenset({"pydantic"}),
    "errors": frozenset(),
    "telling": frozenset(),
    "ports": frozenset(),
    "dispatcher": frozenset({"pydantic"}),
    "settings": frozenset({"pydantic"}),
}
"""What these parts may use that is not Python's own: no part that decides knows AWS."""
IMPURE_MODULES = frozenset({"random", "secrets", "time", "os", "socket", "subprocess", "urllib.request", "http.client"})


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    return subprocess.run(
        program, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The packages beside each other, to be broken."""
    for name, source in SOURCES.items():
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("quaymaster/domain/states.py", "from quaymaster.domain import run", "no circles"),
        ("quaymaster/dispatcher/tasks/launch.py", "from quaymaster.dispatcher.placing import match", "no circles"),
        ("quaymaster/dispatcher/placing/match.py", "from quaymaster.dispatcher.users import pools", "the dispatcher"),
        ("quaymaster/dispatcher/novelties/__init__.py", "", "the rooms of the dispatcher"),
        ("quaymaster/dispatcher/settle.py", "from quaymaster.adapters.s3 import blobs", "the control plane"),
        ("quaymaster_worker/main.py", "import quaymaster.ports", "by its words only"),
        ("functions/serve_api.py", "import boto3", "only they know AWS"),
    ],
)
def test_an_import_that_goes_the_wrong_way_fails(checkout: Path, file: str, line: str, broken: str) -> None:
    path = checkout / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    ended = lint(checkout)
    wrong = [one for one in ended.stdout.splitlines() if one.endswith(" BROKEN")]
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert any(broken in one for one in wrong), wrong


def test_a_copy_of_what_is_there_passes(checkout: Path) -> None:
    assert lint(checkout).returncode == 0


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, wherever in it, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}:{node.lineno} is a relative import"
            assert not node.level, f"{path}:{node.lineno} is a relative import"
            yield node.lineno, node.module


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the control plane, with the part that it belongs to."""
    for path in sorted(CORE.rglob("*.py")):
        yield path.relative_to(CORE).parts[0].removesuffix(".py"), path
    for path in sorted(SOURCES["functions"].glob("*.py")):
        yield "functions", path


MODULES = [pytest.param(part, path, id=str(path.relative_to(REPOSITORY))) for part, path in modules()]


def test_every_package_is_looked_at() -> None:
    assert {path for path in SOURCES.values() if not any(path.rglob("*.py"))} == set()
    assert len(MODULES) > 80


@pytest.mark.parametrize(("part", "path"), [one for one in MODULES if one.values[0] in PURE])
def test_what_decides_knows_no_cloud(part: str, path: Path) -> None:
    foreign = {
        module.partition(".")[0]
        for _, module in imports(path)
        if module.partition(".")[0] not in sys.stdlib_module_names | {"quaymaster"}
    }
    assert foreign <= PURE[part]


@pytest.mark.parametrize(("part", "path"), [one for one in MODULES if one.values[0] == "domain"])
def test_the_domain_has_no_clock_no_randomness_and_no_io(part: str, path: Path) -> None:
    assert {module for _, module in imports(path)} & IMPURE_MODULES == set()
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert [call for call in calls if call in ("open", "print", "input") or call.endswith((".now", ".today"))] == []


@pytest.mark.parametrize(("part", "path"), MODULES)
def test_the_environment_of_a_function_is_read_in_the_wiring_only(part: str, path: Path) -> None:
    names = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert part == "wiring" or names.isdisjoint({"os.environ", "os.getenv"})
