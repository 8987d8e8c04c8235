"""A pool's settings as users write them: names with Go durations and whole numbers."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import timedelta

from quaymaster.domain import objects
from quaymaster.domain.durations import format_duration, parse_duration
from quaymaster.domain.pool import PoolSettings
from quaymaster.domain.spot import Capacity
from quaymaster.errors import Refused
from quaymaster.telling import describe_name

_NAMES = tuple(field.name for field in fields(PoolSettings))
_SHORTEST_GRANT = timedelta(minutes=1)
_LONGEST_GRANT = timedelta(days=7)
"""S3 refuses to presign for longer."""
CAPACITIES = ("capacity", "read_only_capacity")
SECOND = timedelta(seconds=1)
LONGEST_PATIENCE = timedelta(hours=24)
LEAST_QUEUE_TIMEOUT = timedelta(minutes=1)
_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@*-]*|\*[A-Za-z0-9._:/@*-]*")
LONGEST_PATTERNS = 1024
SHORTEST_LEASE = timedelta(seconds=3)
"""A reconnection alone takes a second or two."""


def write_pool_settings(settings: PoolSettings) -> dict[str, str | int]:
    """Every setting that has a value, by name."""
    values = ((name, getattr(settings, name)) for name in _NAMES)
    return {name: _written(value) for name, value in values if value not in (None, ())}


def _written(value: timedelta | tuple[str, ...] | str | int) -> str | int:
    if isinstance(value, timedelta):
        return format_duration(value)
    return ",".join(value) if isinstance(value, tuple) else value


def read_pool_settings(found: Mapping[str, str | int], before: PoolSettings | None = None) -> PoolSettings:
    """Those before (the defaults, if there were none), changed by what was found.

    Raises Refused, naming the setting that is unknown or makes no sense.
    """
    unknown = [name for name in found if name not in _NAMES]
    if unknown:
        raise Refused("settings", describe_name(unknown[0]), f"settings are {', '.join(_NAMES)}")
    defaults = PoolSettings()
    values = {name: _read(name, value, getattr(defaults, name)) for name, value in found.items()}
    settings = replace(before or defaults, **values)
    _check(settings)
    return settings


def _read(
    name: str, value: str | int, default: timedelta | tuple[str, ...] | int
) -> timedelta | tuple[str, ...] | Capacity | int:
    field = f"settings.{name}"
    if isinstance(default, tuple):
        return _patterns(field, value)
    if name in CAPACITIES:
        if value not in (allowed := [str(capacity) for capacity in Capacity]):
            raise Refused(field, _shown(value), f"one of {', '.join(allowed)}")
        return Capacity(value)
    if isinstance(default, timedelta):
        if value == "0s":
            # Shown so; where it makes no sense the bounds say so.
            return timedelta(0)
        try:
            return parse_duration(str(value))
        except ValueError:
            allowed = "a duration like '90s', '7m' or '1h10m', of a year at most"
            raise Refused(field, _shown(value), allowed) from None
    least = min(default, 1)
    if isinstance(value, str) or value < least:
        raise Refused(field, _shown(value), f"a whole number of at least {least}")
    return value


def _patterns(field: str, value: str | int) -> tuple[str, ...]:
    """Names of images, in which `*` stands for any text, with commas between."""
    text = value if isinstance(value, str) else " "
    found = tuple(part.strip() for part in text.split(",")) if text else ()
    if any(not _PATTERN.fullmatch(part) for part in found) or len(text) > LONGEST_PATTERNS:
        allowed = (
            "names of images with commas between, in which * stands for any text, like "
            f"'registry.example/team/*,registry.example/tools:1', of {LONGEST_PATTERNS} characters at most"
        )
        raise Refused(field, _shown(value), allowed)
    return found


def _shown(value: str | int) -> str:
    return describe_name(value) if isinstance(value, str) else str(value)


def _check(settings: PoolSettings) -> None:
    if settings.warm > settings.max_workers:
        raise Refused("settings.warm", settings.warm, f"at most max_workers, which is {settings.max_workers}")
    if settings.spot_patience and Capacity.SPOT_THEN_ON_DEMAND not in settings.capacities:
        allowed = (
            f"0s, unless capacity or read_only_capacity is {Capacity.SPOT_THEN_ON_DEMAND}: nothing else falls back"
        )
        raise Refused("settings.spot_patience", format_duration(settings.spot_patience), allowed)
    for name, least, most, why in _bounds(settings):
        span: timedelta = getattr(settings, name)
        if span < least:
            raise Refused(f"settings.{name}", format_duration(span), f"at least {format_duration(least)}: {why}")
        if most is not None and span > most:
            raise Refused(f"settings.{name}", format_duration(span), f"at most {format_duration(most)}: {why}")


def _bounds(settings: PoolSettings) -> Iterator[tuple[str, timedelta, timedelta | None, str]]:
    """Each setting that others bound: its name, the least, the most, and why."""
    yield "log_timeout", SECOND, settings.max_log_timeout, "max_log_timeout bounds it"
    yield "run_timeout", SECOND, settings.max_run_timeout, "max_run_timeout bounds it"
    yield "warning", timedelta(0), min(settings.log_timeout, settings.run_timeout), "it comes before both timeouts"
    yield "lease", SHORTEST_LEASE, None, "a reconnection must fit into it"
    yield "accept_timeout", SECOND, None, "a worker needs a moment to answer an offer"
    yield "prepare_timeout", settings.accept_timeout, None, "accept_timeout runs out before it"
    yield "grant_life", _SHORTEST_GRANT, _LONGEST_GRANT, "S3 presigns for so long, and each renewal is a message"
    yield "lost_slack", SECOND, None, "messages of a worker that is well take a moment"
    yield "backstop_slack", settings.stop_grace, None, "stop_grace runs out before the control plane steps in"
    yield "idle_timeout", SECOND, None, "a worker must be found idle before it is stopped"
    yield "start_timeout", SECOND, None, "a task needs a moment to become a worker"
    yield "start_failure_limit", SECOND, None, "runs fail after it"
    yield "queue_timeout", LEAST_QUEUE_TIMEOUT, None, "a worker needs a while to be found, or to come up"
    kept = objects.INPUTS_KEPT - settings.queue_timeout - timedelta(days=1)
    what = f"the bucket keeps workspaces for {objects.INPUTS_KEPT.days} days, and queue_timeout may follow"
    yield "confirmation_timeout", SECOND, max(kept, SECOND), what
    yield "spot_patience", timedelta(0), LONGEST_PATIENCE, "a run that may start on demand should not wait for a day"
