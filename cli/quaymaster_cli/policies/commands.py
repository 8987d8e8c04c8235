"""`quaymaster policy`: what a host's policy says of a run, without a host."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from quaymaster_cli.errors import CliError
from quaymaster_cli.showing.output import Output

if TYPE_CHECKING:
    from quaymaster_policy.policy import Policy

app = typer.Typer(help="Policies about which runs a host takes.", no_args_is_help=True)

DENIED = 3


@app.command("test")
def try_out(
    file: Annotated[Path, typer.Argument(help="The policy, in Rego.")],
    given: Annotated[
        Path | None, typer.Option("--input", help="What it is asked about, as JSON; without it, it is only checked.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Check a policy as an agent does at its start, and ask it about a run; exits with 3 if that is denied."""
    output = Output(json=as_json)
    policy = _read(file)
    if given is None:
        output.show_mapping({"ok": True}) if as_json else output.say(f"{file}: ok")
        return 0
    objections = policy.objections(_document(given))
    if as_json:
        output.show_mapping({"denied": bool(objections), "messages": objections})
    else:
        output.say("denied" if objections else "allowed")
        for one in objections:
            output.say(f"- {one}")
    return DENIED if objections else 0


def _read(file: Path) -> "Policy":
    from quaymaster_policy.errors import PolicyRefused
    from quaymaster_policy.policy import read_policy

    try:
        return read_policy(file)
    except PolicyRefused as error:
        raise CliError(str(error)) from None
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}") from None


def _document(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise CliError(f"{file}: no JSON ({error})") from None
    if not isinstance(found, dict):
        raise CliError(f"{file}: found {type(found).__name__}; allowed: an object, as docs/agent.md lists it")
    return cast("dict[str, Any]", found)
