"""How refusals and errors tell what they found: by kind and length, because it may be a secret in the wrong place."""

import re
from typing import cast

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


def describe(found: object) -> str:
    """The kind and length of a value."""
    match found:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return f"text of {len(found)} characters"
        case list():
            return f"a list of {len(cast('list[object]', found))}"
        case dict():
            return f"an object of {len(cast('dict[str, object]', found))}"
        case _:
            return f"a {type(found).__name__}"


def is_plain(found: str) -> bool:
    """Whether it looks like the name of anything: of a pool, a run, a field."""
    return _PLAIN.fullmatch(found) is not None


def describe_name(found: str) -> str:
    """A name that somebody asked for, quoted where it looks like one."""
    return repr(found) if is_plain(found) else describe(found)


def describe_field(found: str) -> str:
    """A field's name that somebody wrote, as it is where it looks like one."""
    return found if is_plain(found) else f"({describe(found)})"
