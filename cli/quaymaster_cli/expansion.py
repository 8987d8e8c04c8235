"""Parameters that several commands share, written once: a command takes one value, users see several options."""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

type Command = Callable[..., None]


def expand(
    function: Command, parameter: str, options: Sequence[inspect.Parameter], build: Callable[..., Any]
) -> Command:
    """The command with its `parameter` replaced by `options`; `build` makes the one value of theirs.

    Typer reads a command's parameters from its signature, so the signature is what changes.
    """
    signature = inspect.signature(function, eval_str=True)
    kept = [one for name, one in signature.parameters.items() if name != parameter]
    names = [option.name for option in options]

    @wraps(function)
    def expanded(**values: Any) -> None:
        shared = {name: values.pop(name) for name in names}
        function(**{parameter: build(**shared)}, **values)

    expanded.__signature__ = signature.replace(parameters=[*kept, *options])  # pyright: ignore[reportAttributeAccessIssue]
    expanded.__annotations__ = {}
    return expanded


def option(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    """A keyword-only parameter; `annotation` carries the `typer.Option`."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
