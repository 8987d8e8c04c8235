"""`quaymaster local`: the whole system on this machine."""

import shlex
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from quaymaster_cli.errors import CliError, Interrupted
from quaymaster_cli.showing.output import Output

if TYPE_CHECKING:
    from quaymaster_local.deployment import Deployment

app = typer.Typer(help="The whole system on this machine.", no_args_is_help=True)

Name = Annotated[str, typer.Option(help="Which local cloud; several may be up at once.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_NAME = "default"

_NEXT = """
The deployment is up, and `quaymaster` finds it from this folder. Next:

  mkdir -p .local
  quaymaster pool create red --key .local/red.pem --token-file .local/red.token
  export QUAYMASTER_TOKEN_FILE=.local/red.token QUAYMASTER_POOL_PRIVATE_KEY_FILE=.local/red.pem
  quaymaster-agent --count 2 2> .local/agent.log &
  quaymaster run start --pool red --follow -- echo hello
  quaymaster local down

For AWS tools and other folders, eval "$(quaymaster local env)" does this:
"""


@contextmanager
def _installed() -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise CliError(f"the local cloud is not installed here (no {error.name}); use a checkout") from None


@contextmanager
def _readable() -> Generator[None]:
    from quaymaster_local.errors import LocalCloudError

    try:
        yield
    except LocalCloudError as error:
        raise CliError(str(error)) from None


@app.command("up")
def up(name: Name = DEFAULT_NAME, json: Json = False) -> None:
    """Build and deploy the system into a local cloud, and leave it running."""
    with _installed():
        from quaymaster_local.cloud import up as bring_up
        from quaymaster_local.progress import tell_on_stderr
    output = Output(json=json)
    output.note(f"bringing up the local cloud {name!r}")
    try:
        with _readable():
            deployment = bring_up(name, tell=tell_on_stderr)
    except KeyboardInterrupt:
        # What was started is stopped before this comes out.
        raise Interrupted("nothing is left") from None
    if json:
        output.show_mapping(asdict(deployment))
        return
    output.note(*_NEXT.splitlines())
    _show_environment(output, deployment)


@app.command("env")
def env(name: Name = DEFAULT_NAME, json: Json = False) -> None:
    """Print what points AWS tools and other folders at a local cloud, for `eval`."""
    with _installed():
        from quaymaster_local.cloud import status as look
    output = Output(json=json)
    with _readable():
        found = look(name)
    if not found.deployment or found.state != "up":
        raise CliError(f"no local cloud named {name!r} is up here: `make local` brings one up")
    if json:
        output.show_mapping(found.deployment.environment())
    else:
        _show_environment(output, found.deployment)


def _show_environment(output: Output, deployment: "Deployment") -> None:
    for variable, value in deployment.environment().items():
        output.say(f"export {variable}={shlex.quote(value)}")


@app.command("down")
def down(name: Name = DEFAULT_NAME, json: Json = False) -> None:
    """End a local cloud; nothing of it is left."""
    with _installed():
        from quaymaster_local.cloud import down as take_down
    output = Output(json=json)
    with _readable():
        take_down(name)
    if json:
        output.show_mapping({"name": name, "state": "down"})
    else:
        output.note(f"the local cloud {name!r} is down")


@app.command("status")
def status(name: Name = DEFAULT_NAME, json: Json = False) -> None:
    """Say whether a local cloud is up; the exit code is 0 only then."""
    with _installed():
        from quaymaster_local.cloud import status as look
    output = Output(json=json)
    with _readable():
        found = look(name)
    if json:
        output.show_mapping(asdict(found))
    else:
        where = [("API", found.deployment.api_url), ("logs", found.deployment.logs)] if found.deployment else []
        output.fields([("local cloud", name), ("state", found.state), *where])
    if found.state != "up":
        raise typer.Exit(1)
