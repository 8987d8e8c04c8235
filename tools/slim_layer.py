"""Make a SAM build start fast. What is removed is never used; nothing else changes.

Most of a cold start is CPU spent on reading: botocore's table of every AWS endpoint, and sources without bytecode.
"""

import compileall
import gzip
import json
import shutil
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

LAYER = "QuaymasterLayer"
# The AWS services that the functions call; a test compares them with the clients that the layer's code makes.
SERVICES = frozenset({"dynamodb", "ecs", "iot", "iot-data", "lambda", "s3", "sqs", "ssm"})
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
    """Remove the description of every service that is not called."""
    for folder in (path for path in data.iterdir() if path.is_dir() and path.name not in SERVICES):
        shutil.rmtree(folder)


def trim_endpoints(data: Path) -> None:
    """Keep the endpoints of the services that are called: the file is read whole at every start."""
    path = data / "endpoints.json"
    endpoints = json.loads(path.read_text())
    prefixes = {endpoint_prefix(data / service) for service in SERVICES}
    for partition in endpoints["partitions"]:
        partition["services"] = {name: value for name, value in partition["services"].items() if name in prefixes}
    path.write_text(json.dumps(endpoints, separators=(",", ":")))


def endpoint_prefix(service: Path) -> str:
    """The name under which a service stands in endpoints.json."""
    newest = max(service.iterdir())
    metadata: dict[str, Any] = json.loads(gzip.decompress((newest / "service-2.json.gz").read_bytes()))["metadata"]
    return str(metadata["endpointPrefix"])


def compile_sources(folder: Path) -> None:
    """Write bytecode that is taken as it is: unpacking a zip rounds the times that Python would compare."""
    for stale in folder.rglob("__pycache__"):
        shutil.rmtree(stale)
    compiled = compileall.compile_dir(
        folder, quiet=1, workers=0, stripdir=str(folder), invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
    )
    if not compiled:
        raise SystemExit(f"{folder}: not every source compiles")
