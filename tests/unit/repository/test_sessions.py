"""What fails a session that went well, fails it where its tests are shared out among processes too."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared.cloudformation import REPOSITORY

LEAVES_ONE = """
import subprocess

kept = []

def test_that_passes():
    kept.append(subprocess.Popen(["sleep", "5"]))
"""
CLEAN = """
def test_that_passes():
    pass
"""
HOOKS = (
    "pytest_collection_modifyitems",
    "pytest_sessionfinish",
    "pytest_testnodedown",
    "pytest_xdist_make_scheduler",
)
SHARED_OUT = ["--numprocesses=2", "--dist=loadscope"]


@pytest.mark.parametrize("words", [[], SHARED_OUT], ids=["one process", "shared out"])
@pytest.mark.parametrize(("source", "code"), [(CLEAN, 0), (LEAVES_ONE, 1)], ids=["clean", "leaves one"])
def test_a_process_that_nobody_waited_for_fails_the_session(
    tmp_path: Path, words: list[str], source: str, code: int
) -> None:
    # Nothing else of it: a session of its own would take the logs of this one for old.
    (tmp_path / "conftest.py").write_text(f"from tests.conftest import {', '.join(HOOKS)}\n")
    for name in ("one", "two"):
        (tmp_path / f"test_{name}.py").write_text(source if name == "two" else CLEAN)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", *words, str(tmp_path)],
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert ("no test has waited for the end of process" in ended.stdout + ended.stderr) is bool(code)
    assert "2 passed" in ended.stdout
