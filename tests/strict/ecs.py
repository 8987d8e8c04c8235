"""ECS: tasks and task definitions, as Fargate takes them."""

# pyright: basic
# Requests have no types of their own: botocore makes them of its models.

import json
import re
from typing import Any

from tests.strict.finding import Findings

SIZES = {
    256: (512, 1024, 2048),
    512: range(1024, 4096 + 1, 1024),
    1024: range(2048, 8192 + 1, 1024),
    2048: range(4096, 16_384 + 1, 1024),
    4096: range(8192, 30_720 + 1, 1024),
    8192: range(16_384, 61_440 + 1, 4096),
    16_384: range(32_768, 122_880 + 1, 8192),
}
"""MiB of memory that Fargate has for so many CPU units."""
OTHER_FILTERS = {"serviceName", "family", "containerInstance", "desiredStatus", "launchType"}
MOST_STOP_SECONDS = 120


def check(operation: str, request: dict[str, Any], findings: Findings) -> None:
    """One request."""
    match operation:
        case "RunTask":
            _check_run(request, findings)
        case "StopTask":
            findings.unless(len(request.get("reason", "")) <= 255, "reason", "reason", "more than 255 characters")
        case "DescribeTasks":
            findings.unless(1 <= len(request["tasks"]) <= 100, "tasks", "tasks", f"{len(request['tasks'])}")
        case "ListTasks":
            alone = "startedBy" not in request or not set(request) & OTHER_FILTERS
            findings.unless(alone, "tasks", "startedBy", "beside another filter")
        case "RegisterTaskDefinition":
            _check_definition(request, findings)
        case _:
            return


def _check_run(request: dict[str, Any], findings: Findings) -> None:
    findings.unless(1 <= request.get("count", 1) <= 10, "task", "count", str(request.get("count")))
    for name, pattern in (("clientToken", r"[\x21-\x7e]{1,64}"), ("startedBy", r"[A-Za-z0-9_/-]{1,128}")):
        findings.unless(re.fullmatch(pattern, request.get(name, "x")), "task", name, f"does not match {pattern}")
    network = request.get("networkConfiguration", {}).get("awsvpcConfiguration", {})
    fargate = request.get("launchType") == "FARGATE" or request.get("capacityProviderStrategy")
    findings.unless(not fargate or network.get("subnets"), "task", "networkConfiguration", "no subnets")
    few = len(network.get("subnets", [])) <= 16 and len(network.get("securityGroups", [])) <= 5
    findings.unless(few, "task", "networkConfiguration", "more than 16 subnets or 5 security groups")
    size = len(json.dumps(request.get("overrides", {})))
    findings.unless(size <= 8192, "overrides", "overrides", f"{size} characters")


def _check_definition(request: dict[str, Any], findings: Findings) -> None:
    size = len(json.dumps(request, default=str))
    findings.unless(size <= 64 * 1024, "definition", "RegisterTaskDefinition", f"{size} bytes")
    findings.unless(re.fullmatch(r"[\w-]{1,255}", request["family"], re.ASCII), "definition", "family", "")
    if "FARGATE" not in request.get("requiresCompatibilities", []):
        return
    cpu, memory = str(request.get("cpu")), str(request.get("memory"))
    fits = cpu.isdigit() and memory.isdigit() and int(memory) in SIZES.get(int(cpu), ())
    findings.unless(fits, "definition", "cpu, memory", f"{cpu}, {memory}: no size of Fargate's")
    findings.unless(request.get("networkMode") == "awsvpc", "definition", "networkMode", "awsvpc")
    for name in ("pidMode", "ipcMode", "taskRoleArn", "executionRoleArn"):
        findings.unless(request.get(name) != "", "definition", name, "empty")
    for container in request["containerDefinitions"]:
        _check_container(container, request, findings)


def _check_container(container: dict[str, Any], request: dict[str, Any], findings: Findings) -> None:
    path = f"containerDefinitions.{container.get('name')}"
    seconds = container.get("stopTimeout", 0)
    findings.unless(seconds <= MOST_STOP_SECONDS, "definition", f"{path}.stopTimeout", str(seconds))
    reads = not container.get("secrets") or request.get("executionRoleArn")
    findings.unless(reads, "definition", f"{path}.secrets", "no execution role to read them")
    names = [one["name"] for one in [*container.get("secrets", []), *container.get("environment", [])]]
    findings.unless(len(set(names)) == len(names), "definition", f"{path}.environment", "a name twice")
