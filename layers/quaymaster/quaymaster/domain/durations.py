"""Go durations (`1000s`, `120m`, `1h10m`), the way every Quaymaster setting and flag writes a time span."""

import re
from datetime import timedelta

_UNITS = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1, "µs": 1, "ns": 0.001}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
FORM = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST = timedelta(days=366)


def parse_duration(text: str) -> timedelta:
    """Read a Go duration. Raises ValueError, with what was found and what is allowed, for anything else.

    Negative spans, spans of zero and spans over a year are refused: no setting of Quaymaster means anything by them.
    """
    if len(text) > 64 or not FORM.fullmatch(text):
        raise ValueError(f"{text[:64]!r} is not a duration; write it like '90s', '7m' or '1h10m'")
    span = timedelta(0)
    for number, unit in _PART.findall(text):
        try:
            span += timedelta(microseconds=float(number) * _UNITS[unit])
        except OverflowError:
            raise ValueError(f"{text!r} is longer than a year") from None
    if not timedelta(0) < span <= _LONGEST:
        raise ValueError(f"{text!r} must be longer than nothing and at most a year")
    return span


def format_duration(span: timedelta) -> str:
    """Write a span as the shortest Go duration that reads back as the same span (to the microsecond)."""
    left = round(span / timedelta(microseconds=1))
    parts: list[str] = []
    for unit in ("h", "m"):
        count, left = divmod(left, int(_UNITS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    if left or not parts:
        parts.append(f"{left / 1_000_000:.6f}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)
