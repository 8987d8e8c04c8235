"""What a system can pass to a command. Linux: execve(2), "Limits on size of arguments and environment"."""

from collections.abc import Mapping, Sequence

MAX_STRING_BYTES = 128 * 1024 - 1
"""One argument, or one `NAME=value`: 32 pages, the NUL behind it included."""
MAX_TOTAL_BYTES = 1024 * 1024
"""All of them together, half of what is left of a usual stack's quarter: the worker adds variables of its own."""
_POINTER = 8


def too_long(command: Sequence[str], environment: Mapping[str, str]) -> tuple[str, int] | None:
    """The first string that is too long, by the name of its field, and its bytes; values are told to nobody."""
    for number, argument in enumerate(command):
        if (size := len(argument.encode())) > MAX_STRING_BYTES:
            return f"command.{number}", size
    for name, value in environment.items():
        if (size := len(f"{name}={value}".encode())) > MAX_STRING_BYTES:
            return f"environment.{name}", size
    return None


def total_bytes(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """What the strings take together, each with its NUL and its pointer."""
    strings = [*command, *(f"{name}={value}" for name, value in environment.items())]
    return sum(len(one.encode()) + 1 + _POINTER for one in strings)
