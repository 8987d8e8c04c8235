"""`docs/cli.md` has every command and every option, in the words of its help."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from quaymaster.domain.pool import PoolSettings
from quaymaster_cli.main import app
from quaymaster_cli.pools.options import MEANING
from quaymaster_cli.session import OPTIONS
from typer.main import get_command
from typer.testing import CliRunner

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
COMMON = {option.name for option in OPTIONS}


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command by its words."""
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(path), command
        return
    for name, child in children.items():
        yield from commands(child, (*path, name))


ALL = dict(commands(get_command(app)))


def section(title: str) -> str:
    """The part of the page below a heading."""
    assert f"\n## {title}\n" in PAGE, f"docs/cli.md has no section for {title}"
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", ALL)
def test_every_command_is_documented_with_each_of_its_options(name: str) -> None:
    text = section(f"quaymaster {name}")
    assert ALL[name].help.strip() in text
    for parameter in ALL[name].params:
        if parameter.param_type_name == "argument":
            assert f"| {parameter.help} |" in text
        elif parameter.name not in COMMON and parameter.name != "help" and not getattr(parameter, "hidden", False):
            names = ", ".join(f"`{one}`" for one in parameter.opts)
            assert f"| {names} | {parameter.help} |" in text


@pytest.mark.parametrize("name", ALL)
def test_what_help_shows_is_what_its_words_say(name: str) -> None:
    """Rich takes what is in square brackets for markup, and shows nothing of it."""
    shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "1000", "TERMINAL_WIDTH": "1000"})
    assert shown.exit_code == 0
    text = " ".join(shown.output.replace("│", " ").split())
    assert " ".join(ALL[name].help.split()) in text
    for parameter in ALL[name].params:
        if getattr(parameter, "hidden", False):
            assert parameter.opts[0] not in text.split(), "hidden"
            continue
        assert " ".join((parameter.help or "").split()) in text, parameter.name


def test_no_command_is_documented_that_does_not_exist() -> None:
    headings = [line.removeprefix("## quaymaster ") for line in PAGE.splitlines() if line.startswith("## quaymaster ")]
    assert headings == list(ALL)


def test_the_options_of_every_command_are_documented_once() -> None:
    common = PAGE.split("\n## ")[0]
    for parameter in ALL["pool list"].params:
        if parameter.name in COMMON:
            assert f"| `{parameter.opts[0]}` | {parameter.help} |" in common


def test_every_command_prints_json_if_asked() -> None:
    assert [name for name, one in ALL.items() if "--json" not in {word for p in one.params for word in p.opts}] == []


def test_every_setting_of_a_pool_is_an_option_with_a_meaning() -> None:
    assert list(MEANING) == [one.name for one in fields(PoolSettings)]
    flags = {word for parameter in ALL["pool create"].params for word in parameter.opts}
    assert {f"--{name.replace('_', '-')}" for name in MEANING} <= flags
