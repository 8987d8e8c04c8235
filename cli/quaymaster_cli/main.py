"""The `quaymaster` command: its parts, and how it ends."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from quaymaster_cli import local_commands
from quaymaster_cli.dead_letters import commands as dead_letter_commands
from quaymaster_cli.errors import CliError, Interrupted, Usage
from quaymaster_cli.policies import commands as policy_commands
from quaymaster_cli.pools import commands as pool_commands
from quaymaster_cli.pools import worker_commands
from quaymaster_cli.showing.plain import visible
from quaymaster_cli.steering import commands as run_commands

if TYPE_CHECKING:
    from io import TextIOWrapper

    from quaymaster_cli.deployment.connecting import Connection
    from quaymaster_cli.deployment.target import Where


class Commands(TyperGroup):
    """Lets Ctrl-C out as an error of ours; typer would call it "Aborted" and exit with 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None


# Errors are one line; typer's own traceback pages are for its authors.
app = typer.Typer(
    help="Runs on pools of workers in your own AWS account.",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(pool_commands.app, name="pool")
app.add_typer(worker_commands.app, name="worker")
app.add_typer(run_commands.app, name="run")
app.add_typer(dead_letter_commands.app, name="dead-letters")
app.add_typer(policy_commands.app, name="policy")
app.add_typer(local_commands.app, name="local")


def _print_version(wanted: bool) -> None:
    if wanted:
        from quaymaster import __version__

        print(f"quaymaster {__version__}")
        raise typer.Exit


@app.callback()
def quaymaster(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Runs on pools of workers in your own AWS account."""


def run(arguments: Sequence[str], connect: "Callable[[Where], Connection] | None" = None) -> int:
    """Run one command line and return its exit code. `connect` replaces how a deployment is found and reached."""
    options = list(arguments[: arguments.index("--")]) if "--" in arguments else arguments
    as_json = "--json" in options
    try:
        _check_text(arguments)
        result = cast(object, app(list(arguments), prog_name="quaymaster", standalone_mode=False, obj=connect))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    except typer.TyperException as error:
        return _refuse(error, as_json=as_json)
    except CliError as error:
        _print_error(str(error), error.exit_code, as_json=as_json)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output has gone; without this, Python complains once more at its own end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        _print_error(f"this is a bug ({type(error).__name__}: {error})", 1, as_json=as_json)
        if os.environ.get("QUAYMASTER_DEBUG"):
            raise
        return 1
    return result if isinstance(result, int) else 0


def _refuse(error: typer.TyperException, *, as_json: bool) -> int:
    """A command line that typer does not understand, in one line as every other error."""
    code: int = getattr(error, "exit_code", Usage.exit_code)
    message: str = cast(Any, error).format_message() if hasattr(error, "format_message") else str(error)
    if "\n" in message:
        # No words at all: the help, which is no error of one line.
        print(message, file=sys.stderr)
        return code
    context = getattr(error, "ctx", None)
    hint = f" (`{context.command_path} --help` lists what there is)" if context else ""
    _print_error(message.rstrip(".") + hint, code, as_json=as_json)
    return code


def _print_error(text: str, exit_code: int, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": text, "exit_code": exit_code}), file=sys.stderr)
    else:
        print(f"quaymaster: {visible(text)}", file=sys.stderr)


def _check_text(arguments: Sequence[str]) -> None:
    """Raises Usage for an argument that is no UTF-8, which Python brings as half surrogates."""
    for number, argument in enumerate(arguments, 1):
        if not argument.isascii() and any("\ud800" <= one <= "\udfff" for one in argument):
            raise Usage(f"argument {number} is not UTF-8: {argument}")


def main() -> None:
    """Entry point of the `quaymaster` command."""
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding lacks is written out, instead of ending the command.
        cast("TextIOWrapper", stream).reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
