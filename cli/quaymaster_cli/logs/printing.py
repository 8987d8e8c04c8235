"""Printing a log: the command's output on stdout as it was written, the worker's own lines beside it on stderr."""

import re
import sys
from collections.abc import Iterable

from quaymaster_cli.logs.reader import LogLine
from quaymaster_cli.showing.output import Output
from quaymaster_cli.showing.plain import coloured

# A control sequence that a piece of a line may have been cut in; a longer one is none that colours.
_BEGUN = re.compile("\x1b(?:\\[[0-9;:]{0,64})?$")


def print_lines(lines: Iterable[LogLine], output: Output) -> None:
    """Print a log as it comes. Into a pipe, stdout is byte for byte what the command wrote, if that was UTF-8.

    On a terminal without what would control it. As JSON, each line as it lies in the log.
    """
    if output.json:
        for line in lines:
            print(line.raw, flush=True)
    elif sys.stdout.isatty():
        _print_on_terminal(lines, output)
    else:
        for line in lines:
            if line.agent:
                output.note(line.text.removesuffix("\n"))
            else:
                print(line.text, end="", flush=True)


def _print_on_terminal(lines: Iterable[LogLine], output: Output) -> None:
    held, open_line = "", False
    try:
        for line in lines:
            if line.agent:
                if open_line:
                    print(flush=True)
                    open_line = False
                output.note(line.text.removesuffix("\n"))
                continue
            text = held + line.text
            begun = _BEGUN.search(text)
            held = begun[0] if begun else ""
            ends = text.endswith("\n")
            print(coloured(text.removesuffix("\n").removesuffix(held)), end="\n" if ends else "", flush=True)
            open_line = not ends
    finally:
        if open_line:
            # What comes next on this terminal begins a line of its own.
            print(flush=True)
