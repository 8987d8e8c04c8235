"""A pool's settings as users write them: names with Go durations and whole numbers."""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import timedelta

from longshore.domain.durations import format_duration, parse_duration
from longshore.domain.pool import PoolSettings, SpotUse
from longshore.domain.telling import describe_name
from longshore.errors import Refused

_NAMES = tuple(field.name for field in fields(PoolSettings))
_SHORTEST_GRANT = timedelta(minutes=1)
_LONGEST_GRANT = timedelta(days=7)
"""S3 refuses to presign for longer."""


def write_pool_settings(settings: PoolSettings) -> dict[str, str | int]:
    """Every setting by name."""
    values = ((name, getattr(settings, name)) for name in _NAMES)
    return {name: format_duration(value) if isinstance(value, timedelta) else value for name, value in values}


def read_pool_settings(found: Mapping[str, str | int]) -> PoolSettings:
    """The defaults, changed by what was found. Raises Refused, naming the setting that is unknown or makes no sense."""
    unknown = [name for name in found if name not in _NAMES]
    if unknown:
        raise Refused("settings", describe_name(unknown[0]), f"settings are {', '.join(_NAMES)}")
    defaults = PoolSettings()
    values = {name: _read(name, value, getattr(defaults, name)) for name, value in found.items()}
    settings = replace(defaults, **values)
    _check(settings)
    return settings


def _read(name: str, value: str | int, default: timedelta | SpotUse | int) -> timedelta | SpotUse | int:
    field = f"settings.{name}"
    if isinstance(default, SpotUse):
        if value not in (allowed := [str(use) for use in SpotUse]):
            raise Refused(field, _shown(value), f"one of {', '.join(allowed)}")
        return SpotUse(value)
    if isinstance(default, timedelta):
        try:
            return parse_duration(str(value))
        except ValueError:
            allowed = "a duration like '90s', '7m' or '1h10m', of a year at most"
            raise Refused(field, _shown(value), allowed) from None
    least = min(default, 1)
    if isinstance(value, str) or value < least:
        raise Refused(field, _shown(value), f"a whole number of at least {least}")
    return value


def _shown(value: str | int) -> str:
    return describe_name(value) if isinstance(value, str) else str(value)


def _check(settings: PoolSettings) -> None:
    if settings.warm > settings.max_workers:
        raise Refused("settings.warm", settings.warm, f"at most max_workers, which is {settings.max_workers}")
    for name in ("log_timeout", "run_timeout"):
        usual, most = getattr(settings, name), getattr(settings, f"max_{name}")
        if usual > most:
            allowed = f"at most max_{name}, which is {format_duration(most)}"
            raise Refused(f"settings.{name}", format_duration(usual), allowed)
    if not _SHORTEST_GRANT <= settings.grant_life <= _LONGEST_GRANT:
        found, shortest, longest = (
            format_duration(span) for span in (settings.grant_life, _SHORTEST_GRANT, _LONGEST_GRANT)
        )
        raise Refused("settings.grant_life", found, f"from {shortest} to {longest}")
