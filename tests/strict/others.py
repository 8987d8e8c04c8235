"""S3, Systems Manager's parameters, and Lambda."""

# pyright: basic
# Requests have no types of their own: botocore makes them of its models.

import json
import re
from typing import Any

from tests.strict.finding import Findings

LONGEST_PRESIGNED = 7 * 86_400
STANDARD_BYTES, ADVANCED_BYTES = 4096, 8192


def check_s3(operation: str, request: dict[str, Any], findings: Findings) -> None:
    """One request to a bucket."""
    if "Key" in request:
        size = len(request["Key"].encode(errors="surrogatepass"))
        findings.unless(0 < size <= 1024, "object", "Key", f"{size} bytes")


def check_presigned(seconds: int, findings: Findings) -> None:
    """For how long something is presigned."""
    findings.unless(1 <= seconds <= LONGEST_PRESIGNED, "object", "expires", f"{seconds} s")


def check_form(fields: dict[str, str], conditions: list[Any], findings: Findings) -> None:
    """The fields of a presigned POST."""
    covered = {"policy", "x-amz-signature", "file"}
    for condition in conditions:
        if isinstance(condition, dict):
            covered |= {str(name).lower() for name in condition}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        elif condition[0] in ("eq", "starts-with"):
            covered.add(str(condition[1]).lstrip("$").lower())
    for name in fields:
        findings.unless(name.lower() in covered, "form", name, "stands in no condition")


def check_ssm(operation: str, request: dict[str, Any], findings: Findings) -> None:
    """One request about parameters."""
    for name in [request["Name"]] if "Name" in request else request.get("Names", []):
        valid = re.fullmatch(r"[A-Za-z0-9_.\-/:]{1,1011}", name) and name.count("/") <= 15
        findings.unless(valid and not re.match(r"(?i)/?(aws|ssm)", name), "parameter", "Name", "no name of a parameter")
    findings.unless(1 <= len(request.get("Names", ["x"])) <= 10, "parameter", "Names", "more than 10")
    if operation == "PutParameter":
        size = len(request["Value"].encode())
        most = STANDARD_BYTES if request.get("Tier", "Standard") == "Standard" else ADVANCED_BYTES
        findings.unless(0 < size <= most, "parameter", "Value", f"{size} bytes, of 1 to {most}")
        findings.unless(not (request.get("Tags") and request.get("Overwrite")), "parameter", "Tags", "with Overwrite")


def check_lambda(operation: str, request: dict[str, Any], findings: Findings) -> None:
    """One call of a function."""
    if operation != "Invoke":
        return
    payload: bytes | str = request.get("Payload") or b"null"
    most = 1 << 20 if request.get("InvocationType") == "Event" else 6 << 20
    findings.unless(len(payload) <= most, "event", "Payload", f"{len(payload)} bytes > {most}")
    try:
        json.loads(payload)
    except ValueError:
        findings.add("event", "Payload", "no JSON")
