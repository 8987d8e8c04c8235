"""What every command works with: the API of the deployment that was meant, and a way to show things."""

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, cast

import typer

from quaymaster_cli.deployment.target import Where
from quaymaster_cli.expansion import Command, expand, option
from quaymaster_cli.showing.output import Output

if TYPE_CHECKING:
    from quaymaster_cli.deployment.client import ApiClient
    from quaymaster_cli.deployment.connecting import Connection


class Session:
    """One command's work; connects when it first needs to."""

    def __init__(self, where: Where, connect: "Callable[[Where], Connection]", output: Output) -> None:
        self._where = where
        self._connect = connect
        self.output = output

    @cached_property
    def connection(self) -> "Connection":
        """The deployment. Raises Unreachable."""
        return self._connect(self._where)

    @property
    def api(self) -> "ApiClient":
        """The deployment's API."""
        return self.connection.api


OPTIONS = (
    option("context", typer.Context, inspect.Parameter.empty),
    option("json", Annotated[bool, typer.Option("--json", help="Print JSON.")], False),
    option(
        "stack_name",
        Annotated[
            str | None,
            typer.Option(
                "--stack-name",
                envvar="QUAYMASTER_STACK_NAME",
                help="CloudFormation stack of the deployment (default: quaymaster).",
            ),
        ],
    ),
    option("profile", Annotated[str | None, typer.Option("--profile", help="AWS profile to act as.")]),
    option("region", Annotated[str | None, typer.Option("--region", help="AWS region of the deployment.")]),
)


def command(app: typer.Typer, name: str) -> Callable[[Command], Command]:
    """Register a command whose first parameter is `session`; it gets the options that every command has."""

    def register(function: Command) -> Command:
        app.command(name)(expand(function, "session", OPTIONS, _session))
        return function

    return register


def _session(
    *, context: typer.Context, json: bool, stack_name: str | None, profile: str | None, region: str | None
) -> Session:
    # Whoever runs the application in its own process may say how to connect.
    connect = cast("Callable[[Where], Connection]", context.obj or _connect)
    return Session(Where(stack_name=stack_name, profile=profile, region=region), connect, Output(json=json))


def _connect(where: Where) -> "Connection":
    from quaymaster_cli.deployment.connecting import connect

    return connect(where)
