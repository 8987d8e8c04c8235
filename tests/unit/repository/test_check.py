"""What must pass before a change lands is the same everywhere: `make check`, pre-commit, the workflow, `.ci/run`."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import yaml

from tests.shared.cloudformation import REPOSITORY

MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")


def recipe(target: str) -> list[str]:
    """The commands of a target, with make's variables in their place."""
    lines = MAKEFILE.partition(f"\n{target}:")[2].partition("\n\n")[0].splitlines()[1:]
    return [line.strip().removeprefix("@").replace("$(SAM_CLI)", ".tools/sam/bin/sam") for line in lines]


def hooks() -> list[dict[str, Any]]:
    text = (REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    return [hook for repo in yaml.safe_load(text)["repos"] for hook in repo["hooks"]]


def test_pre_commit_runs_what_make_check_runs() -> None:
    known = [hook["entry"].replace(" --force-exclude", "") for hook in hooks()]
    commands = [*recipe("check-code"), *recipe("check-template")]
    assert known == [command.removesuffix(" .") for command in commands]
    assert re.findall(r"^check: (.*) ##", MAKEFILE, re.MULTILINE) == ["check-code check-template"]


def test_pre_commit_understands_its_configuration() -> None:
    program = str(Path(sys.executable).with_name("pre-commit"))
    told = subprocess.run(
        [program, "validate-config"], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_workflow_calls_what_must_pass_and_keeps_what_it_leaves() -> None:
    text = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (job,) = cast("dict[str, dict[str, Any]]", yaml.safe_load(text)["jobs"]).values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    kept = [step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert commands == [".ci/run < /dev/null"]
    assert [step["if"] for step in kept] == ["always()"]
    assert "build/logs" in kept[0]["with"]["path"]


def test_what_must_pass_is_checked_tested_and_shown() -> None:
    text = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("make ")] == [
        "make --jobs=2 --output-sync=target check scan",
        "make test",
        "make demo",
    ]


def test_help_shows_the_five_commands_that_one_needs_first() -> None:
    # Under another make it says which folder it enters.
    command = ["make", "--no-print-directory", "help"]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    names = [line.split()[1] for line in told.splitlines() if line.startswith("  make ")]
    assert names[:5] == ["demo", "local", "test", "format", "deploy"]
    assert told.splitlines()[5] == ""
    assert len(names) == len(set(names)) > 12
