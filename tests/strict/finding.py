"""What is found wrong with a request, and the rules by which it is."""

from dataclasses import dataclass, field

RULES = {
    # The services' models, as botocore ships them.
    "member": "service model: members of a structure",
    "required": "service model: required members",
    "integer": "service model: the types integer (32 bits) and long (64 bits)",
    "range": "service model: `min` and `max`",
    "pattern": "service model: `pattern`",
    "enumeration": "service model: `enum`",
    "unicode": "JSON and XML carry Unicode scalar values only (RFC 8259, section 8.2)",
    # DynamoDB.
    "number": "DynamoDB Developer Guide, Supported data types: 38 digits, 1E-130 to 9.99E+125",
    "set": "DynamoDB Developer Guide, Supported data types: sets are neither empty nor repeat themselves",
    "nesting": "DynamoDB Developer Guide, Quotas: 32 levels",
    "item": "DynamoDB Developer Guide, Quotas: 400 KB an item, names and values",
    "key": "DynamoDB Developer Guide, Quotas: keys of 1 to 2,048 (partition) or 1,024 bytes (sort), of their own type",
    "expression": "DynamoDB Developer Guide, Expressions: 4 KB, not empty, only with attributes that it uses",
    "placeholder": "DynamoDB API Reference: each placeholder is defined and used",
    "reserved": "DynamoDB Developer Guide, Reserved words",
    "key condition": "DynamoDB API Reference, Query: equality of the partition key AND one comparison of the sort key",
    "consistent": "DynamoDB API Reference, Query: no consistent reads of a global secondary index",
    "transaction": "DynamoDB API Reference, TransactWriteItems: 100 actions, 4 MB, each item once, one kind an action",
    "batch": "DynamoDB API Reference, BatchGetItem: 100 keys, each once",
    # SQS.
    "character": "SQS API Reference, SendMessage: #x9, #xA, #xD, #x20 to #xD7FF, #xE000 to #xFFFD, #x10000 to #x10FFFF",
    "message": "SQS Developer Guide, Message quotas: 1 byte to 1 MiB, attributes included; a batch as well",
    "attribute": "SQS Developer Guide, Message metadata: 10 attributes with names, types, values that are not empty",
    "entries": "SQS API Reference, batches: 1 to 10 entries with distinct ids of 80 letters, digits, - and _",
    "span": "SQS API Reference: delays up to 900 s, visibility up to 43,200 s, waits up to 20 s, 10 messages",
    # IoT.
    "topic": "AWS IoT Core quotas: 1 to 256 bytes and 7 slashes; no wildcards, no $ of one's own",
    "payload": "AWS IoT Core quotas: 128 KB",
    "policy": "AWS IoT Core quotas: 2,048 characters without white space; resources are IoT's",
    "expiry": "AWS IoT API Reference, Publish: at least one second",
    # ECS.
    "task": "ECS API Reference, RunTask: 10 tasks; clientToken of 64, startedBy of 128; network for awsvpc",
    "overrides": "ECS API Reference, TaskOverride: 8,192 characters",
    "reason": "ECS API Reference, StopTask: 255 characters",
    "tasks": "ECS API Reference, DescribeTasks: 1 to 100; ListTasks: startedBy stands alone",
    "definition": "ECS Developer Guide, Task definition parameters for Fargate; ECS service quotas: 64 KiB",
    # S3, SSM, Lambda.
    "object": "S3 User Guide: keys of 1 to 1,024 bytes; presigned for 1 s to 7 days",
    "form": "S3 API Reference, POST policy: each field of the form stands in a condition",
    "parameter": "Systems Manager API Reference, PutParameter: names, 15 levels, 4 KB; 10 at once",
    "event": "Lambda quotas: 6 MB, 1 MB for asynchronous events, JSON",
}
"""Every rule that a request is judged by, with the document that it is read from."""


@dataclass(frozen=True)
class Finding:
    """One thing that AWS would refuse a request for; never a value of it that could be secret."""

    rule: str
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what} [{self.rule}: {RULES[self.rule]}]"


@dataclass
class Findings:
    """What was found so far."""

    found: list[Finding] = field(default_factory=list[Finding])

    def add(self, rule: str, path: str, what: str) -> None:
        """Something is wrong there."""
        assert rule in RULES, f"a rule without a source: {rule}"
        self.found.append(Finding(rule, path, what))

    def unless(self, holds: object, rule: str, path: str, what: str) -> None:
        """Something is wrong there unless this holds."""
        if not holds:
            self.add(rule, path, what)
