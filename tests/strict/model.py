"""The service's own model: types, widths, ranges, lengths, patterns, enumerations. botocore checks few of them."""

# pyright: basic
# Requests have no types of their own: botocore makes them of its models.

import re
from functools import cache
from typing import Any

from tests.strict.finding import Findings

WIDTHS = {"integer": 32, "long": 64}
CLASSES = {"L": r"^\W\d_", "N": r"\d", "Z": r"\s", "Graph": r"\x21-\x7e", "Alnum": "A-Za-z0-9", "ASCII": r"\x00-\x7f",
           "Print": r"\x20-\x7e", "Cntrl": r"\x00-\x1f\x7f"}  # fmt: skip
"""Java's names for classes of characters, inside the brackets of one of Python's."""


def check_shape(value: Any, shape: Any, path: str, findings: Findings) -> None:
    """A value against its shape, and what is in it."""
    match shape.type_name, value:
        case "structure", dict():
            _check_structure(value, shape, path, findings)
        case "list", list() | tuple():
            _check_range(len(value), shape, path, "elements", findings)
            for index, part in enumerate(value):
                check_shape(part, shape.member, f"{path}[{index}]", findings)
        case "map", dict():
            _check_range(len(value), shape, path, "entries", findings)
            for name, part in value.items():
                check_shape(name, shape.key, f"{path} key", findings)
                check_shape(part, shape.value, f"{path}[…]", findings)
        case "integer" | "long", int():
            bits = WIDTHS[shape.type_name]
            findings.unless(-(2 ** (bits - 1)) <= value < 2 ** (bits - 1), "integer", path, f"not in {bits} bits")
            _check_range(value, shape, path, "", findings)
        case "string", str():
            _check_string(value, shape, path, findings)
        case "blob", bytes() | bytearray():
            _check_range(len(value), shape, path, "bytes", findings)
        case _:
            return


def _check_structure(value: dict[str, Any], shape: Any, path: str, findings: Findings) -> None:
    for name in shape.required_members:
        findings.unless(name in value, "required", f"{path}.{name}", "missing")
    for name, part in value.items():
        if name not in shape.members:
            findings.add("member", f"{path}.{name}", "unknown")
        elif part is not None:
            check_shape(part, shape.members[name], f"{path}.{name}", findings)


def _check_string(value: str, shape: Any, path: str, findings: Findings) -> None:
    _check_range(len(value), shape, path, "characters", findings)
    findings.unless(not re.search("[\ud800-\udfff]", value), "unicode", path, "a lone surrogate")
    if getattr(shape, "enum", None):
        findings.unless(value in shape.enum, "enumeration", path, f"none of {', '.join(shape.enum[:12])}")
    rule = _compiled(shape.metadata.get("pattern") or "")
    findings.unless(
        not rule or rule.fullmatch(value), "pattern", path, f"does not match {shape.metadata.get('pattern')}"
    )


def _check_range(size: int, shape: Any, path: str, unit: str, findings: Findings) -> None:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    findings.unless(low is None or size >= low, "range", path, f"{size} {unit} < {low}")
    findings.unless(high is None or size <= high, "range", path, f"{size} {unit} > {high}")


@cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """The pattern in Python's dialect; none where it has no equivalent."""
    names = set(re.findall(r"\\p\{(\w+)\}", pattern))
    if not pattern or names - CLASSES.keys() or "L" in names:
        return None
    for name in names:
        pattern = pattern.replace(f"\\p{{{name}}}", CLASSES[name])
    try:
        return re.compile(pattern)
    except re.error:
        return None
