"""The check that ends every pipeline: it finds whatever a run leaves, however that tried to get away."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.shared.cloudformation import REPOSITORY

TOOL = REPOSITORY / "tools" / "leaves_nothing.py"
ESCAPES = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True)"
"""Its child has another session, another group, and soon another parent."""


def leaves_nothing(*command: str, grace: float = 0.5) -> subprocess.CompletedProcess[str]:
    patient = TOOL.read_text(encoding="utf-8").replace("GRACE_SECONDS = 30", f"GRACE_SECONDS = {grace}")
    words = [sys.executable, "-c", patient, *command]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_that_leaves_nothing_keeps_its_exit_code(code: int):
    ended = leaves_nothing(sys.executable, "-c", f"import sys; sys.exit({code})", grace=30)
    assert (ended.returncode, ended.stderr) == (code, "")


def test_a_process_that_is_left_is_named_and_ended():
    ended = leaves_nothing(sys.executable, "-c", ESCAPES)
    assert ended.returncode == 1
    assert f"process {ended.stdout.strip()}: sleep 600" in ended.stderr
    assert not psutil.pid_exists(int(ended.stdout))


def test_who_is_about_to_end_is_waited_for():
    ended = leaves_nothing("sh", "-c", "setsid sleep 0.5 &", grace=30)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_folder_that_is_left_is_named_and_removed():
    ended = leaves_nothing("sh", "-c", 'mkdir "$TMPDIR/quaymaster-x" "$TMPDIR/pytest-of-me"; echo "$TMPDIR"')
    assert (ended.returncode, ended.stderr) == (1, "left behind: quaymaster-x in TMPDIR\n")
    assert not Path(ended.stdout.strip()).exists()


def test_the_exit_code_of_a_failed_run_stays_whatever_it_leaves():
    assert leaves_nothing("sh", "-c", 'mkdir "$TMPDIR/x"; exit 7').returncode == 7
