"""`longshore local`: the whole system on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from longshore_cli.errors import CliError
from longshore_cli.output import Output

if TYPE_CHECKING:
    from types import ModuleType

app = typer.Typer(help="The whole system on this machine.", no_args_is_help=True)

Name = Annotated[str, typer.Option(help="Which local cloud; several may be up at once.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _cloud() -> "ModuleType":
    try:
        from longshore_local import cloud
    except ImportError as error:
        raise CliError(f"the local cloud is not installed here ({error.name} is missing): use a checkout") from None
    return cloud
