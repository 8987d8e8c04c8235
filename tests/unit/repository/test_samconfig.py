"""`samconfig.toml` says how the template is deployed, on AWS and on the local cloud, in options that SAM has."""

import re
import subprocess
import tomllib
from typing import Any

import pytest
from quaymaster_cli.deployment.target import DEFAULT_STACK
from quaymaster_local.settings import REGION, load_settings
from quaymaster_local.stack import STACK_NAME

from tests.shared.cloudformation import REPOSITORY, source

CONFIG: dict[str, Any] = tomllib.loads((REPOSITORY / "samconfig.toml").read_text(encoding="utf-8"))
ENVIRONMENTS = ("default", "local")


def options(environment: str, command: str) -> dict[str, Any]:
    """What a command is given beside what is typed. Of what is said for all, SAM gives a command what it has."""
    said = CONFIG[environment]
    own = said.get(command, {}).get("parameters", {})
    return said.get("global", {}).get("parameters", {}) | own if command == "deploy" else own


def test_both_deploy_the_stack_that_the_command_line_looks_for() -> None:
    assert {options(name, "deploy")["stack_name"] for name in ENVIRONMENTS} == {DEFAULT_STACK} == {STACK_NAME}
    assert options("local", "deploy")["region"] == REGION
    # On AWS the region is the user's.
    assert "region" not in options("default", "deploy")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_capabilities_are_those_that_the_template_needs_and_no_more(environment: str) -> None:
    wanted = {"CAPABILITY_AUTO_EXPAND"} if "Transform" in source() else set[str]()
    resources: dict[str, Any] = source()["Resources"]
    iam = [one for one in resources.values() if one["Type"].startswith("AWS::IAM::")]
    named = any({"RoleName", "ManagedPolicyName"} & set(one.get("Properties", {})) for one in iam)
    wanted.add("CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM")
    assert set(options(environment, "deploy")["capabilities"].split()) == wanted


def test_on_aws_nothing_is_changed_before_somebody_has_looked() -> None:
    assert options("default", "deploy")["confirm_changeset"] is True
    assert options("local", "deploy")["confirm_changeset"] is False


@pytest.mark.local
@pytest.mark.parametrize("command", ["build", "deploy", "validate"])
def test_sam_has_every_option(command: str) -> None:
    sam = load_settings(source=REPOSITORY).sam
    told = subprocess.run(
        [sam, command, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120
    )
    known = {name.replace("-", "_") for name in re.findall(r"--(?:no-)?([a-z0-9-]+)", told.stdout)}
    for environment in ENVIRONMENTS:
        given = {key.removeprefix("no_") for key in options(environment, command)}
        assert given <= known, f"sam {command} does not have {given - known}"
