"""Make a SAM build start fast. What is removed is never used; nothing else changes.

Most of a cold start is CPU spent on reading: botocore's description of every AWS endpoint and of every operation of a
service, and sources without bytecode.
"""

import compileall
import gzip
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any, cast

LAYER = "QuaymasterLayer"
OPERATIONS: Mapping[str, frozenset[str]] = {
    "dynamodb": frozenset(
        {"BatchGetItem", "DeleteItem", "GetItem", "PutItem", "Query", "TransactWriteItems", "UpdateItem"}
    ),
    "ec2": frozenset({"DescribeSecurityGroups", "DescribeSubnets"}),
    "ecr": frozenset({"BatchGetImage"}),
    "ecs": frozenset(
        {
            "DeregisterTaskDefinition",
            "DescribeTaskDefinition",
            "DescribeTasks",
            "ListTaskDefinitions",
            "ListTasks",
            "RegisterTaskDefinition",
            "RunTask",
            "StopTask",
        }
    ),
    "iot": frozenset({"AttachPolicy", "CreateCertificateFromCsr", "CreatePolicy", "DescribeEndpoint"}),
    "iot-data": frozenset({"Publish"}),
    "lambda": frozenset({"Invoke"}),
    "s3": frozenset({"GetObject", "ListObjectsV2", "PutObject"}),
    "sqs": frozenset({"ChangeMessageVisibility", "DeleteMessage", "ReceiveMessage", "SendMessage"}),
    "ssm": frozenset({"GetParameter"}),
}
"""What the functions call of AWS. A test compares it with the calls in the layer's code."""
# What botocore looks for beside a service's description, and nobody here asks for.
BESIDE = ("examples-1.json*", "waiters-2.json*", "paginators-1.sdk-extras.json*")
MANIFESTS = ("pyproject.toml", "requirements.txt")
# pydantic looks through every dist-info for plug-ins.
UNUSED = ("bin", "boto3/data", "boto3/examples", "*.dist-info", "*.data")


def slim(build: Path) -> None:
    """Trim the layer under `build` and compile it and the functions. Safe to repeat."""
    packages = build / LAYER / "python"
    for name in MANIFESTS:
        (packages / name).unlink(missing_ok=True)
    for unused in UNUSED:
        for folder in packages.glob(unused):
            shutil.rmtree(folder)
    trim_services(packages / "botocore/data")
    trim_endpoints(packages / "botocore/data")
    for folder in (path for path in build.iterdir() if path.is_dir()):
        compile_sources(folder)


def trim_services(data: Path) -> None:
    """Keep of every service that is called what describes those calls, and nothing of the others."""
    for folder in (path for path in data.iterdir() if path.is_dir()):
        if folder.name not in OPERATIONS:
            shutil.rmtree(folder)
            continue
        *older, newest = sorted(folder.iterdir())
        for version in older:
            shutil.rmtree(version)
        for unused in (path for pattern in BESIDE for path in newest.glob(pattern)):
            unused.unlink()
        packed = newest / "service-2.json.gz"
        if packed.exists():
            model = trim_model(json.loads(gzip.decompress(packed.read_bytes())), OPERATIONS[folder.name])
            (newest / "service-2.json").write_text(json.dumps(model, separators=(",", ":")))
            packed.unlink()
        trim_pages(newest / "paginators-1.json", OPERATIONS[folder.name])


def trim_pages(file: Path, operations: frozenset[str]) -> None:
    """Keep how the answers of these operations are paged."""
    if file.exists():
        pages: dict[str, Any] = json.loads(file.read_text())["pagination"]
        kept = {name: how for name, how in pages.items() if name in operations}
        file.write_text(json.dumps({"pagination": kept}, separators=(",", ":")))


def trim_model(model: dict[str, Any], operations: frozenset[str]) -> dict[str, Any]:
    """The description of a service with these operations only, and the shapes that they lead to."""
    kept = {name: found for name, found in model["operations"].items() if name in operations}
    shapes: dict[str, Any] = {}
    waiting = [name for operation in kept.values() for name in _named(operation)]
    while waiting:
        name = waiting.pop()
        if name not in shapes:
            shapes[name] = model["shapes"][name]
            waiting += _named(shapes[name])
    ordered = {name: shape for name, shape in model["shapes"].items() if name in shapes}
    # Of the rest botocore wants even the documentation.
    return model | {"operations": _silent(kept), "shapes": _silent(ordered)}


def _named(described: object) -> Iterator[str]:
    """The shapes that a description names, however deep."""
    if isinstance(described, dict):
        inside = cast("dict[str, object]", described)
        if isinstance(name := inside.get("shape"), str):
            yield name
        yield from (name for inner in inside.values() for name in _named(inner))
    elif isinstance(described, list):
        yield from (name for inner in cast("list[object]", described) for name in _named(inner))


def _silent(described: Any) -> Any:
    """A description without what only people read."""
    if isinstance(described, dict):
        inside = cast("dict[str, Any]", described)
        # A member of a shape may have that name; then it is a description itself.
        spoken = {name for name in ("documentation", "documentationUrl") if isinstance(inside.get(name), str)}
        return {name: _silent(inner) for name, inner in inside.items() if name not in spoken}
    return [_silent(inner) for inner in cast("list[Any]", described)] if isinstance(described, list) else described


def trim_endpoints(data: Path) -> None:
    """Keep the endpoints of the services that are called: the file is read whole at every start."""
    path = data / "endpoints.json"
    endpoints = json.loads(path.read_text())
    prefixes = {endpoint_prefix(data / service) for service in OPERATIONS}
    for partition in endpoints["partitions"]:
        partition["services"] = {name: value for name, value in partition["services"].items() if name in prefixes}
    path.write_text(json.dumps(endpoints, separators=(",", ":")))


def endpoint_prefix(service: Path) -> str:
    """The name under which a service stands in endpoints.json."""
    (version,) = service.iterdir()
    return str(json.loads((version / "service-2.json").read_text())["metadata"]["endpointPrefix"])


def compile_sources(folder: Path) -> None:
    """Write bytecode that is taken as it is: unpacking a zip rounds the times that Python would compare."""
    for stale in folder.rglob("__pycache__"):
        shutil.rmtree(stale)
    compiled = compileall.compile_dir(
        folder, quiet=1, workers=0, stripdir=str(folder), invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
    )
    if not compiled:
        raise SystemExit(f"{folder}: not every source compiles")
