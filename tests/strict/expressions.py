"""DynamoDB's expressions: what they name is defined, what is defined is used, and no name is a reserved word."""

# pyright: basic
# Requests have no types of their own: botocore makes them of its models.

import re
from functools import cache
from pathlib import Path
from typing import Any

from tests.strict.finding import Findings

EXPRESSIONS = ("KeyConditionExpression", "ConditionExpression", "FilterExpression", "ProjectionExpression",
               "UpdateExpression")  # fmt: skip
WORDS = {"AND", "OR", "NOT", "BETWEEN", "IN", "SET", "REMOVE", "ADD", "DELETE"}
FUNCTIONS = {"attribute_exists", "attribute_not_exists", "attribute_type", "begins_with", "contains", "size",
             "list_append", "if_not_exists"}  # fmt: skip
RESERVED = Path(__file__).with_name("reserved_words.txt")
LONGEST = 4096


@cache
def reserved_words() -> frozenset[str]:
    """In capitals."""
    return frozenset(RESERVED.read_text(encoding="utf-8").split())


def check_expressions(part: dict[str, Any], path: str, findings: Findings) -> None:
    """The expressions of a request, or of one action in it."""
    given = {name: part[name] for name in EXPRESSIONS if name in part}
    text = " ".join(given.values())
    for name, expression in given.items():
        findings.unless(
            0 < len(expression.strip().encode()) <= LONGEST, "expression", f"{path}.{name}", "1 to 4,096 bytes"
        )
    for label, sign in (("ExpressionAttributeValues", ":"), ("ExpressionAttributeNames", "#")):
        defined, used = part.get(label), set(re.findall(rf"{sign}\w+", text))
        findings.unless(defined is None or (defined and text), "expression", f"{path}.{label}", "nothing to define")
        for name in used ^ set(defined or {}):
            findings.add("placeholder", f"{path}.{label}", f"{name} is {'not defined' if name in used else 'not used'}")
    for word in re.findall(r"(?<![:#\w])[A-Za-z_]\w*", text):
        if word not in FUNCTIONS and word.upper() not in WORDS:
            findings.unless(word.upper() not in reserved_words(), "reserved", path, word)
    if key := given.get("KeyConditionExpression"):
        findings.unless(not re.search(r"\bOR\b|<>|\bNOT\b|\bIN\b|contains", key), "key condition", path, key)
