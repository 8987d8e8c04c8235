"""The built artifact, imported with nothing but itself and its layer on the path."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from quaymaster_local.build import build
from quaymaster_local.settings import Settings

from tools.slim_layer import OPERATIONS

pytestmark = pytest.mark.local

FUNCTIONS = {
    "DispatchRuns": "dispatch_runs",
    "ReceiveWorkerEvents": "receive_worker_events",
    "ReceiveTaskEvents": "receive_task_events",
    "ReapOverdue": "reap_overdue",
    "ServeApi": "serve_api",
}
MOST_LAYER_BYTES = 60_000_000
ENVIRONMENT = {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "QUAYMASTER_NAMESPACE": "quaymaster",
    "QUAYMASTER_TABLE": "quaymaster",
    "QUAYMASTER_BUCKET": "quaymaster",
    "QUAYMASTER_INTERNAL_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/111122223333/quaymaster-internal",
    "QUAYMASTER_DEAD_LETTER_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/111122223333/quaymaster-dead-letters",
    "QUAYMASTER_ECS_CLUSTER": "quaymaster",
    "QUAYMASTER_WORKER_TASK_DEFINITION": "quaymaster-worker",
    "QUAYMASTER_SSM_PREFIX": "/quaymaster/quaymaster",
    "POWERTOOLS_SERVICE_NAME": "quaymaster",
    "POWERTOOLS_METRICS_NAMESPACE": "Quaymaster",
}
# -I -S: neither the environment's packages nor the user's; what is missing from the layer fails here.
IMPORT = """
import importlib, json, sys
sys.path[:0] = sys.argv[1:3]
handler = importlib.import_module(sys.argv[3]).handler
loaded = {name: getattr(sys.modules[name], "__cached__", None) for name in ("quaymaster", "botocore", "pydantic")}
print(json.dumps({"callable": callable(handler), "loaded": loaded, "awscrt": "awscrt" in sys.modules}))
"""
CLIENTS = """
import sys
sys.path[:0] = sys.argv[1:2]
from boto3.session import Session
for service in sys.argv[2:]:
    client = Session(region_name="us-east-1").client(service)
    print(service, client.meta.endpoint_url)
"""


CALLS = """
import sys
sys.path[:0] = sys.argv[1:2]
from botocore.session import Session

class Sent(Exception):
    pass

def sample(shape):
    # The least that the model takes.
    if shape.type_name == "structure":
        return {name: sample(shape.members[name]) for name in shape.required_members}
    if shape.type_name == "list":
        return [sample(shape.member)]
    if shape.type_name == "map":
        return {"name": sample(shape.value)}
    return {"blob": b"x", "integer": 1, "long": 1, "boolean": True}.get(shape.type_name, "sample-text")

def sent(request, **_):
    raise Sent(request.url)

client = Session().create_client(sys.argv[2], region_name="us-east-1")
client.meta.events.register("before-send", sent)
for method, operation in client.meta.method_to_api_mapping.items():
    try:
        getattr(client, method)(**sample(client.meta.service_model.operation_model(operation).input_shape))
    except Sent as made:
        assert "amazonaws.com" in str(made), made
        print(operation)
"""
PAGES = """
import sys
sys.path[:0] = sys.argv[1:2]
from botocore.session import Session
for service in sys.argv[2:]:
    client = Session().create_client(service, region_name="us-east-1")
    print(*(method for method in client.meta.method_to_api_mapping if client.can_paginate(method)))
"""


@pytest.fixture(scope="module")
def built(local_settings: Settings) -> Path:
    """The folder of the build."""
    return build(local_settings).parent


def run(code: str, *arguments: str) -> str:
    """What the code prints in an interpreter that sees nothing but its arguments."""
    command = [sys.executable, "-I", "-S", "-c", code, *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_imports_with_nothing_but_itself_and_the_layer(built: Path, function: str) -> None:
    layer = built / "QuaymasterLayer/python"
    said = json.loads(run(IMPORT, str(built / function), str(layer), FUNCTIONS[function]))
    assert said["callable"] is True
    assert all(cached.startswith(str(layer)) and Path(cached).is_file() for cached in said["loaded"].values())


def test_the_layer_never_holds_awscrt(built: Path) -> None:
    """botocore imports it wherever it is installed, which costs every cold start."""
    assert not list((built / "QuaymasterLayer/python").glob("awscrt*"))


def test_clients_of_the_kept_services_find_their_endpoints(built: Path) -> None:
    services = sorted(path.name for path in (built / "QuaymasterLayer/python/botocore/data").iterdir() if path.is_dir())
    said = run(CLIENTS, str(built / "QuaymasterLayer/python"), *services)
    assert [line.split()[0] for line in said.splitlines()] == services
    assert all(line.split()[1].startswith("https://") and "amazonaws.com" in line for line in said.splitlines())


def test_what_the_code_asks_to_be_paged_can_be(built: Path) -> None:
    source = "".join(path.read_text() for path in (built / "QuaymasterLayer/python/quaymaster/adapters").rglob("*.py"))
    asked = set(re.findall(r"get_paginator\(\s*\"([a-z0-9_]+)\"", source))
    services = sorted(path.name for path in (built / "QuaymasterLayer/python/botocore/data").iterdir() if path.is_dir())
    said = run(PAGES, str(built / "QuaymasterLayer/python"), *services)
    assert asked
    assert asked <= set(said.split())


def test_a_client_makes_every_call_that_the_code_wants_and_no_other(built: Path) -> None:
    for service, operations in OPERATIONS.items():
        said = run(CALLS, str(built / "QuaymasterLayer/python"), service)
        assert set(said.split()) == operations


def test_bytecode_is_there_and_is_taken_as_it_is(built: Path) -> None:
    sources = [path for path in built.rglob("*.py") if "QuaymasterLayer" in path.parts]
    compiled = [path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc" for path in sources]
    assert len(compiled) > 300
    assert [path for path in compiled if not path.is_file()] == []
    # Byte 4 holds the flags: hash-based (1), and not checked against the source (no 2).
    assert {path.read_bytes()[4] for path in compiled} == {1}


def test_the_layer_is_small(built: Path) -> None:
    files = [path for path in (built / "QuaymasterLayer").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_LAYER_BYTES
