"""The commands of the README, one after the other in a fresh copy of the checkout, as somebody types them."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from quaymaster_cli.workspace import Wish
from quaymaster_cli.workspace.selection import select
from quaymaster_local.cloud import LocalCloud

from tests.shared.cloudformation import REPOSITORY
from tests.shared.passage import let_others_pass

pytestmark = pytest.mark.local

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = [block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)]
ELSEWHERE = [
    ["make demo", "make test"],
    ["make build", ".tools/sam/bin/sam deploy --guided"],
    ["source .venv/bin/activate", 'eval "$(quaymaster local env)"'],
    ["quaymaster --install-completion"],
]
"""CI runs these by themselves, AWS is not here, and the copy has the environment of the tests."""
SETTLED = (
    "[ ! -e .local/request.json ] || "
    "until quaymaster run show deploy-1842 && quaymaster run show deploy-1843; do sleep 1; done > .local/seen 2>&1"
)
"""People take longer to read on than a request on its way, the last that was sent, takes to become a run."""
STARTED = "until quaymaster run show long-1; do sleep 1; done > .local/seen 2>&1"
AWS = REPOSITORY / ".tools" / "aws" / "bin"


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A fresh checkout of what git has here; whatever was started in it ends with the test."""
    copy = tmp_path / "quaymaster"
    for path in select(Wish(folder=REPOSITORY)):
        source, target = REPOSITORY / path, copy / path
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    subprocess.run(["git", "init", "-q"], cwd=copy, check=True)
    subprocess.run(["git", "add", "."], cwd=copy, check=True)
    # The phases' user passes through to the state folder.
    let_others_pass(tmp_path)
    yield copy
    for process in psutil.process_iter():
        if _is_in(process, copy):
            process.send_signal(signal.SIGKILL)


def _is_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get("QUAYMASTER_README") == str(folder)
    except psutil.Error:
        return False


def test_every_command_of_the_readme_works_in_its_order(cloud: LocalCloud, checkout: Path) -> None:
    assert [block for block in BLOCKS if block in ELSEWHERE] == ELSEWHERE
    lines: list[str] = []
    for block in BLOCKS:
        if block not in ELSEWHERE:
            starts = any("--id long-1" in line for line in block)
            lines += [*block, SETTLED, *([STARTED] if starts else [])]
    assert len(lines) > 20
    programs = f"{Path(sys.executable).parent}:{AWS}:{os.environ['PATH']}"
    own = {"PATH": programs, "HOME": str(checkout), "QUAYMASTER_STATE_DIR": str(checkout / ".local" / "state")}
    environment = {**own, **cloud.env(), "QUAYMASTER_README": str(checkout)}
    # -e: the first command that fails ends it; -x: the output says which.
    script = "\n".join(["set -ex", *lines, "kill %1", "wait %1"])
    said = checkout.parent / "said"
    with said.open("wb") as file:
        # A file and no pipe: the agent in the background would hold it open.
        ended = subprocess.run(
            ["bash", "-c", script], cwd=checkout, env=environment, stdout=file, stderr=file, timeout=240, check=False
        )
    shown = said.read_text()
    assert ended.returncode == 0, shown
    assert "what can be made" in shown, shown
    assert "Linux" in shown, shown
    assert "deploy-1843" in shown, shown
    assert (
        subprocess.run(
            ["git", "status", "--porcelain"], cwd=checkout, capture_output=True, text=True, check=True
        ).stdout.count("?? ")
        == 0
    ), "nothing that git would pack was left in the checkout"
