"""What the pages say is what the code does: links, settings, variables, exit codes, decisions."""

import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest
from quaymaster.domain.durations import format_duration
from quaymaster.domain.pool import PoolSettings
from quaymaster_cli.errors import CliError, Interrupted, Usage
from quaymaster_cli.main import app
from quaymaster_cli.runs.exit_codes import ENDED_WITHOUT_CODE, TIMED_OUT
from quaymaster_worker.configuration.options import OPTIONS
from quaymaster_worker.errors import ExitCode
from typer.core import TyperGroup
from typer.main import get_command

from tests.shared.cloudformation import REPOSITORY, source

AGENT_PAGE = REPOSITORY / "worker" / "README.md"
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), AGENT_PAGE])
DECISIONS = sorted((REPOSITORY / "docs" / "decisions").glob("*.md"))
CODE = [
    file
    for folder in ("functions", "layers", "sealing", "worker", "cli", "local")
    for file in (REPOSITORY / folder).rglob("*.py")
]
OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
AGENT = (REPOSITORY / "docs" / "agent.md").read_text(encoding="utf-8")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
VARIABLE = re.compile(r"\bQUAYMASTER_[A-Z_]*[A-Z]\b")


def rows(heading: str, page: str = OPERATIONS) -> dict[str, list[str]]:
    """The rows of the tables under a heading of a page: all cells, by each name in the first one."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `"):
            found |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), cells)
    return found


def anchors(page: Path) -> set[str]:
    """The places in a page that a link may name."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_that_the_code_names_exists() -> None:
    named = {name for file in CODE for name in re.findall(r"docs/[\w/-]+\.md", file.read_text(encoding="utf-8"))}
    assert {name for name in named if not (REPOSITORY / name).exists()} == set()


def test_every_pool_setting_is_listed_with_its_default() -> None:
    defaults = PoolSettings()
    values = {field.name: getattr(defaults, field.name) for field in fields(PoolSettings)}
    shown = {name: format_duration(v) if isinstance(v, timedelta) else str(v) for name, v in values.items()}
    listed = {name: cells[1].strip("`") for name, cells in rows("Pool settings").items()}
    assert listed == shown | {"read_only_capacity": "as capacity", "images": "none"}


def test_every_template_parameter_is_listed_with_its_default() -> None:
    declared = {name: str(parameter.get("Default", "")) for name, parameter in source()["Parameters"].items()}
    listed = {name: cells[1].strip("`") for name, cells in rows("Template parameters").items()}
    assert listed == {name: default or "(empty)" for name, default in declared.items()}


def test_every_variable_that_the_code_reads_or_sets_is_listed() -> None:
    texts = [file.read_text(encoding="utf-8") for file in [*CODE, REPOSITORY / "template.yaml"]]
    named = {name for text in texts for name in VARIABLE.findall(text)}
    named |= {option.variable for option in OPTIONS}
    documented = set(VARIABLE.findall(OPERATIONS + AGENT))
    assert named - documented - {"QUAYMASTER_METADATA"} == set()
    assert documented - named == set(), "no code knows these any more"


def test_every_option_of_the_agent_is_listed_with_its_default_and_a_test_that_shows_it() -> None:
    listed = rows("Options", AGENT)
    defaults = {option.variable: option.default for option in OPTIONS} | {"QUAYMASTER_METADATA_<name>": "none"}
    assert {name: cells[1] for name, cells in listed.items() if name in defaults} == defaults
    for name in defaults:
        file, _, test = listed[name][3].strip("` |").partition("::")
        assert f"def {test}(" in (REPOSITORY / file).read_text(encoding="utf-8"), name


def test_the_agent_s_own_page_lists_the_same_variables() -> None:
    """It travels with the agent, to where the other pages are not."""
    assert {option.variable for option in OPTIONS} <= set(
        re.findall(r"`(QUAYMASTER_[A-Z_]+(?:<name>)?)`", AGENT_PAGE.read_text(encoding="utf-8"))
    )


def test_every_exit_code_is_listed() -> None:
    agent = {code: cells[1].partition(":")[0] for code, cells in rows("Exit codes of the agent").items()}
    assert agent == {str(int(code)): code.name.lower().replace("_", " ") for code in ExitCode}
    ours = {Usage.exit_code, Interrupted.exit_code, CliError.exit_code, TIMED_OUT, ENDED_WITHOUT_CODE, 0}
    assert {int(code) for code in rows("Exit codes of the command line")} == ours


def test_the_unit_restarts_after_what_a_restart_can_cure() -> None:
    unit = (REPOSITORY / "worker/quaymaster-agent.service").read_text(encoding="utf-8")
    (prevented,) = re.findall("^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)
    page = (REPOSITORY / "worker/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| .* \| (\S.*) \|$", page, re.MULTILINE)
    told = {int(code) for code, restart in rows if restart == "no"} - {0}
    assert {int(code) for code in prevented.split()} == told == {ExitCode.REJECTED, ExitCode.CONFIGURATION_REFUSED}
    assert "Restart=on-failure" in unit.splitlines()
    assert "StartLimitIntervalSec=0" in unit.splitlines()


def test_every_command_is_shown_on_some_page() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for noun, verbs in group.commands.items():
        assert isinstance(verbs, TyperGroup)
        for verb in verbs.commands:
            assert f"quaymaster {noun} {verb}" in text, f"{noun} {verb}"


def test_decisions_are_numbered_dated_and_short() -> None:
    numbers = [int(file.name[:4]) for file in DECISIONS]
    assert len(set(numbers)) == len(numbers)
    for file in DECISIONS:
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines()
        assert len(lines) < 40, file.name
        assert lines[0].startswith(f"# {int(file.name[:4])}. "), file.name
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", lines[2]), file.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Choice", "Consequence"], file.name
