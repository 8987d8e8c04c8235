"""Every command in README is one that works as it is written."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable

import botocore.session
import pytest
from botocore import xform_name
from quaymaster.domain.requests import check_request
from quaymaster_cli.main import app
from typer.core import TyperGroup
from typer.main import get_command

from tests.shared.cloudformation import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
REQUESTS = [json.loads(text) for text in re.findall(r"'(\{.*\})'", README)]
AS_IT_STANDS = frozenset({".tools/sam/bin/sam deploy --guided", "source .venv/bin/activate", "mkdir -p .local"})
"""Nothing in these is ours but the paths, which the Makefile makes."""
GLOBAL_OPTIONS = frozenset({"--output", "--query", "--endpoint-url"})


def make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z]+):.*##", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(words) <= set(targets)


def quaymaster(words: list[str]) -> None:
    """Read by the command line itself, options and all; nothing is run."""
    command, path = get_command(app), "quaymaster"
    while isinstance(command, TyperGroup):
        if words[0].startswith("-"):
            # An option of the whole command acts as soon as it is read.
            assert words[0] in {option for parameter in command.params for option in parameter.opts}
            return
        path, command = f"{path} {words[0]}", command.commands[words[0]]
        words = words[1:]
    command.make_context(path, list(words))


def quaymaster_agent(words: list[str]) -> None:
    ask = [sys.executable, "-m", "quaymaster_worker.main", "--help"]
    told = subprocess.run(ask, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"}).stdout
    assert all(f"{word} " in told for word in words if word.startswith("--"))


def aws(words: list[str]) -> None:
    """An operation of the service, with parameters that it has."""
    service, operation, *rest = words
    model = botocore.session.get_session().get_service_model(service)
    names = {xform_name(name, "-"): name for name in model.operation_names}
    shape = model.operation_model(names[operation]).input_shape
    options = {f"--{xform_name(name, '-')}" for name in shape.members} if shape else set[str]()
    assert {word for word in rest if word.startswith("--")} <= options | GLOBAL_OPTIONS


def echo(words: list[str]) -> None:
    check_request(json.loads(words[0]))


def export(words: list[str]) -> None:
    page = (REPOSITORY / "docs" / "agent.md").read_text(encoding="utf-8")
    assert all(f"`{word.partition('=')[0]}`" in page for word in words)


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "make": make,
    "quaymaster": quaymaster,
    "quaymaster-agent": quaymaster_agent,
    "aws": aws,
    "export": export,
    "echo": echo,
}


@pytest.mark.parametrize("line", LINES)
def test_a_command_is_one_that_exists(line: str) -> None:
    if line in AS_IT_STANDS:
        return
    inner = re.fullmatch(r"(?:[A-Z_]+=|eval )\"?\$\((.*)\)\"?", line)
    plain = re.sub(r"( 2?> \.local/[a-z.]+)?( &)?$", "", inner[1] if inner else line)
    program, *words = shlex.split(plain)
    PROGRAMS[program](words)


def test_key_and_token_lie_where_git_does_not_look() -> None:
    files = re.findall(r"(?:--key|--token-file|_FILE)[ =](\S+)", README)
    assert len(files) >= 4
    for file in files:
        ignored = subprocess.run(["git", "check-ignore", "-q", file], cwd=REPOSITORY, check=False)
        assert ignored.returncode == 0, file


def test_the_aws_commands_are_ones_of_both_versions() -> None:
    """Version 2 alone has the option, and takes a payload that is written out for base64."""
    assert "--cli-binary-format" not in README
    assert all("fileb://" in line for line in LINES if "--payload" in line)


@pytest.mark.parametrize("found", REQUESTS, ids=lambda found: str(found["id"]))
def test_a_request_is_one_that_would_be_taken(found: dict[str, object]) -> None:
    request = check_request(found)
    assert set(found) <= set(type(request).model_fields) | {"schema"}, "an unknown field would silently do nothing"


def test_the_first_commands_are_the_demo_and_the_tests() -> None:
    assert LINES[:2] == ["make demo", "make test"]
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_paths_of_the_makefile_are_those_of_readme() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for line in AS_IT_STANDS:
        path = next(word for word in line.split() if word.startswith("."))
        assert path.split("/")[0] in makefile
