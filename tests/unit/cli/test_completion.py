"""Completion: the shipped files are what the command makes, and bash, with one of them, completes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared.cloudformation import REPOSITORY
from tools.completions import FILES, FOLDER, script

QUAYMASTER = Path(sys.executable).with_name("quaymaster")
WORDS = {
    "bash": {"COMP_WORDS": "quaymaster run li", "COMP_CWORD": "2"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "quaymaster run li"},
    "fish": {"_TYPER_COMPLETE_ARGS": "quaymaster run li", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


def ask(command: list[str], **environment: str) -> str:
    plain = {"PATH": f"{QUAYMASTER.parent}:/usr/bin:/bin", "HOME": "/nonexistent"}
    told = subprocess.run(command, env=plain | environment, capture_output=True, text=True, check=True, timeout=60)
    return told.stdout


@pytest.mark.parametrize("shell", FILES)
def test_the_shipped_file_is_what_the_command_makes(shell: str) -> None:
    assert (FOLDER / FILES[shell]).read_text(encoding="utf-8") == script(shell)


@pytest.mark.parametrize("shell", FILES)
def test_each_shell_is_answered(shell: str) -> None:
    assert "list" in ask([str(QUAYMASTER)], _QUAYMASTER_COMPLETE=f"complete_{shell}", **WORDS[shell])


@pytest.mark.parametrize(("typed", "completed"), [("ru", "run"), ("run st", "start"), ("run list --sta", "--state")])
def test_bash_completes_with_the_shipped_file(typed: str, completed: str) -> None:
    words = ["quaymaster", *typed.split()]
    asked = f"source {FOLDER / FILES['bash']}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
    found = ask(["bash", "-c", asked + "_quaymaster_completion quaymaster; printf '%s\\n' \"${COMPREPLY[@]}\""])
    assert completed in found.split()


def test_it_is_installed_for_the_shell_that_asks_as_readme_says(tmp_path: Path) -> None:
    assert "\nquaymaster --install-completion\n" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    # The shell itself stays, so that it is the one that is found.
    ask(["bash", "-c", "quaymaster --install-completion; exit $?"], HOME=str(tmp_path), USER=os.environ.get("USER", ""))
    told = ask(["bash", "-c", f"source {tmp_path}/.bashrc; complete -p quaymaster"], HOME=str(tmp_path))
    assert "-F _quaymaster_completion quaymaster" in told
