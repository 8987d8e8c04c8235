"""SQS and IoT: what a message may be, and where it may go."""

# pyright: basic
# Requests have no types of their own: botocore makes them of its models.

import json
import re
from typing import Any

from tests.strict.finding import Findings

UNSENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MEBIBYTE = 1 << 20
MOST_ENTRIES = 10
SPANS = {"DelaySeconds": (0, 900), "VisibilityTimeout": (0, 43_200), "WaitTimeSeconds": (0, 20),
         "MaxNumberOfMessages": (1, 10)}  # fmt: skip
POLICY_RESOURCE = re.compile(r"\*|arn:aws[\w-]*:iot:[\w-]*:\d*:(client|topic|topicfilter|thing|cert)/.*", re.DOTALL)


def check_sqs(operation: str, request: dict[str, Any], findings: Findings) -> None:
    """One request to a queue."""
    entries: list[dict[str, Any]] = request.get("Entries", [request])
    if "Entries" in request:
        ids = [entry["Id"] for entry in entries]
        valid = len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]{1,80}", one, re.ASCII) for one in ids)
        findings.unless(1 <= len(entries) <= MOST_ENTRIES and valid, "entries", "Entries", f"{len(entries)} entries")
    for entry in entries:
        for name, (low, high) in SPANS.items():
            findings.unless(low <= entry.get(name, low) <= high, "span", name, f"{entry.get(name)}: {low} to {high}")
    if operation in ("SendMessage", "SendMessageBatch"):
        total = sum(_check_message(entry, findings) for entry in entries)
        findings.unless(total <= MEBIBYTE, "message", operation, f"{total} bytes in one call")


def _check_message(entry: dict[str, Any], findings: Findings) -> int:
    body, attributes = entry.get("MessageBody", ""), entry.get("MessageAttributes") or {}
    size = len(body.encode(errors="surrogatepass"))
    findings.unless(body, "message", "MessageBody", "empty")
    findings.unless(not UNSENDABLE.search(body), "character", "MessageBody", "a character that SQS does not carry")
    findings.unless(len(attributes) <= 10, "attribute", "MessageAttributes", f"{len(attributes)} > 10")
    for name, attribute in attributes.items():
        text = attribute.get("StringValue") or ""
        kind = attribute.get("DataType", "")
        size += len(name.encode()) + len(kind) + len(text.encode(errors="surrogatepass"))
        findings.unless(not UNSENDABLE.search(text), "character", name, "a character that SQS does not carry")
        named = re.fullmatch(r"[A-Za-z0-9_.-]{1,256}", name) and not re.match(r"(?i)(aws|amazon)\.|\.", name)
        typed = re.match(r"(String|Number|Binary)(\..+)?$", kind)
        filled = text or attribute.get("BinaryValue")
        findings.unless(named and typed and filled, "attribute", name, "a bad name or type, or no value")
    findings.unless(size <= MEBIBYTE, "message", "MessageBody", f"{size} bytes")
    return size


def check_iot_data(operation: str, request: dict[str, Any], findings: Findings) -> None:
    """One publication."""
    if operation != "Publish":
        return
    topic = request["topic"]
    size = len(topic.encode(errors="surrogatepass"))
    findings.unless(0 < size <= 256, "topic", "topic", f"{size} bytes")
    findings.unless(topic.count("/") <= 7, "topic", "topic", f"{topic.count('/')} slashes")
    findings.unless(not set("+#\0") & set(topic) and not topic.startswith("$"), "topic", "topic", "a wildcard, or $")
    payload = request.get("payload") or b""
    findings.unless(len(payload) <= 128 * 1024, "payload", "payload", f"{len(payload)} bytes")
    expiry = request.get("messageExpiry", 1)
    findings.unless(1 <= expiry < 2**32, "expiry", "messageExpiry", str(expiry))


def check_iot(operation: str, request: dict[str, Any], findings: Findings) -> None:
    """One request to the registry of certificates and policies."""
    if operation not in ("CreatePolicy", "CreatePolicyVersion"):
        return
    document = request["policyDocument"]
    length = len(re.sub(r"\s", "", document))
    findings.unless(length <= 2048, "policy", "policyDocument", f"{length} characters")
    for statement in json.loads(document)["Statement"]:
        named: str | list[str] = statement["Resource"]
        for resource in [named] if isinstance(named, str) else named:
            findings.unless(POLICY_RESOURCE.fullmatch(resource), "policy", "policyDocument", f"resource {resource}")
