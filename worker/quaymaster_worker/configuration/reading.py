"""How values of environment variables are read, and refused by name."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from quaymaster.domain.durations import parse_duration
from quaymaster.domain.fields import NAME

from quaymaster_worker.errors import ConfigurationRefused

_DURATION = "a duration like '90s', '7m' or '1h10m'"
SHOWN = 64


def secret(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """A value given directly or by a file, never by both; returns the variable that gave it, too."""
    by_file = f"{name}_FILE"
    value, path = environ.get(name, ""), environ.get(by_file, "")
    if bool(value) == bool(path):
        raise ConfigurationRefused(name, "both" if value else "neither", f"exactly one of {name} and {by_file}")
    if value:
        return name, value
    try:
        return by_file, Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationRefused(by_file, f"{path!r} ({error})", "a file that can be read") from None


def duration(environ: Mapping[str, str], name: str) -> timedelta | None:
    """A Go duration; None without one."""
    text = environ.get(name)
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigurationRefused(name, str(error), _DURATION) from None


def boolean(environ: Mapping[str, str], name: str) -> bool:
    """`true` or `false`, which is what it is without."""
    text = environ.get(name, "false")
    if text not in {"true", "false"}:
        raise ConfigurationRefused(name, repr(text[:SHOWN]), "true or false")
    return text == "true"


def parts(environ: Mapping[str, str], name: str) -> list[str]:
    """What stands between commas; nothing of what is empty."""
    return [part.strip() for part in environ.get(name, "").split(",") if part.strip()]


def names(environ: Mapping[str, str], name: str, prefixes: tuple[str, ...] = ("",)) -> list[str]:
    """Names of variables with commas between, each perhaps behind one of the prefixes."""
    found = parts(environ, name)
    for part in found:
        if not NAME.fullmatch(part) or part in prefixes:
            before = f", each perhaps behind {' or '.join(filter(None, prefixes))}" if len(prefixes) > 1 else ""
            raise ConfigurationRefused(name, repr(part[:SHOWN]), f"names of variables with commas between{before}")
    return found
