"""DynamoDB: numbers, items, keys, transactions."""

# pyright: basic
# Requests have no types of their own: botocore makes them of its models.

import json
import re
from typing import Any

from tests.strict.expressions import check_expressions
from tests.strict.finding import Findings

# The key attributes of the table and its indexes: type, and most bytes.
KEYS = {"pk": ("S", 2048), "sk": ("S", 1024), "due_pk": ("S", 2048), "due_at": ("N", 1024), "listing_pk": ("S", 2048),
        "listing_at": ("S", 1024)}  # fmt: skip
PRIMARY = {"pk", "sk"}
MOST_BYTES = 400 * 1024
MOST_OF_A_TRANSACTION = 4 << 20
MOST_ACTIONS = 100
MOST_KEYS = 100
DEEPEST = 32
DIGITS = 38


def check(operation: str, request: dict[str, Any], findings: Findings) -> None:
    """One request."""
    if operation == "TransactWriteItems":
        _check_transaction(request, findings)
    elif operation == "BatchGetItem":
        _check_batch(request, findings)
    elif operation in ("PutItem", "DeleteItem", "UpdateItem", "GetItem", "Query", "Scan"):
        check_expressions(request, operation, findings)
        _check_values(request, operation, findings)
        for name in ("Item", "Key", "ExclusiveStartKey"):
            if name in request:
                check_item(request[name], name, findings)
        indexed = request.get("IndexName") and request.get("ConsistentRead")
        findings.unless(not indexed, "consistent", operation, f"index {request.get('IndexName')}")


def _check_transaction(request: dict[str, Any], findings: Findings) -> None:
    actions = request["TransactItems"]
    findings.unless(len(actions) <= MOST_ACTIONS, "transaction", "TransactItems", f"{len(actions)} > {MOST_ACTIONS}")
    total, seen = 0, set[str]()
    for index, action in enumerate(actions):
        findings.unless(
            len(action) == 1, "transaction", f"TransactItems[{index}]", f"{len(action)} kinds in one action"
        )
        for kind, part in action.items():
            path = f"TransactItems[{index}].{kind}"
            check_expressions(part, path, findings)
            _check_values(part, path, findings)
            item = part.get("Item") or part.get("Key") or {}
            total += check_item(item, path, findings)
            key = json.dumps([part.get("TableName"), item.get("pk"), item.get("sk")])
            findings.unless(key not in seen, "transaction", path, "a second action on one item")
            seen.add(key)
    findings.unless(total <= MOST_OF_A_TRANSACTION, "transaction", "TransactItems", f"{total} bytes")


def _check_batch(request: dict[str, Any], findings: Findings) -> None:
    keys = [(table, key) for table, part in request["RequestItems"].items() for key in part["Keys"]]
    distinct = {json.dumps(key, sort_keys=True) for key in keys}
    findings.unless(len(keys) <= MOST_KEYS, "batch", "RequestItems", f"{len(keys)} keys")
    findings.unless(len(distinct) == len(keys), "batch", "RequestItems", "a key twice")
    for _, key in keys:
        check_item(key, "Keys", findings)


def _check_values(part: dict[str, Any], path: str, findings: Findings) -> None:
    for name, value in (part.get("ExpressionAttributeValues") or {}).items():
        check_attribute(value, f"{path}.{name}", findings)
        if part.get("KeyConditionExpression"):
            findings.unless(value.get("S") != "", "key", f"{path}.{name}", "an empty key")


def check_item(item: dict[str, Any], path: str, findings: Findings) -> int:
    """An item or a key; its size in bytes."""
    for name, value in item.items():
        check_attribute(value, f"{path}.{name}", findings)
        if name in KEYS:
            _check_key(name, value, path, findings)
    size = sum(len(name.encode()) + size_of(value) for name, value in item.items())
    findings.unless(size <= MOST_BYTES, "item", path, f"{size} bytes > {MOST_BYTES}")
    return size


def _check_key(name: str, value: dict[str, Any], path: str, findings: Findings) -> None:
    kind, most = KEYS[name]
    if set(value) != {kind}:
        findings.add("key", f"{path}.{name}", f"of type {', '.join(value)}, not {kind}")
    elif kind == "S":
        size = len(value["S"].encode(errors="surrogatepass"))
        findings.unless(0 < size <= most, "key", f"{path}.{name}", f"{size} bytes, of 1 to {most}")


def check_attribute(value: dict[str, Any], path: str, findings: Findings, depth: int = 1) -> None:
    """An attribute value, and those in it."""
    findings.unless(depth <= DEEPEST, "nesting", path, f"{depth} levels")
    for kind, inner in value.items():
        match kind:
            case "N":
                _check_number(inner, path, findings)
            case "SS" | "NS" | "BS":
                findings.unless(inner and len(set(inner)) == len(inner), "set", path, "empty, or a value twice")
            case "L":
                for index, part in enumerate(inner):
                    check_attribute(part, f"{path}[{index}]", findings, depth + 1)
            case "M":
                for name, part in inner.items():
                    check_attribute(part, f"{path}.{name}", findings, depth + 1)
            case _:
                pass  # strings, bytes, booleans and null have no rule of their own


def _check_number(text: str, path: str, findings: Findings) -> None:
    found = re.fullmatch(r"[-+]?(\d*)(?:\.(\d*))?(?:[eE][-+]?\d+)?", text)
    if not found or not (found[1] or found[2]):
        findings.add("number", path, "no number")
        return
    digits = (found[1] + (found[2] or "")).strip("0")
    findings.unless(len(digits) <= DIGITS, "number", path, f"{len(digits)} digits")
    if len(digits) <= DIGITS:
        magnitude = abs(float(text))
        findings.unless(not magnitude or 1e-130 <= magnitude < 1e126, "number", path, f"magnitude {magnitude}")


def size_of(value: dict[str, Any]) -> int:
    """Bytes of an attribute value, as the Developer Guide counts them (Item sizes and formats)."""
    ((kind, inner),) = value.items()
    match kind:
        case "S":
            return len(inner.encode(errors="surrogatepass"))
        case "N":
            return len(inner.strip("-+0.")) // 2 + 2
        case "B":
            return len(inner)
        case "L":
            return 3 + sum(1 + size_of(part) for part in inner)
        case "M":
            return 3 + sum(1 + len(name.encode()) + size_of(part) for name, part in inner.items())
        case "SS" | "NS" | "BS":
            return sum(len(part) for part in inner)
        case _:
            return 1
