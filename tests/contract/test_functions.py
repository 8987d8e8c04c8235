"""What functions promise whoever hands them an event: in memory, by the client's model, and in the local Lambda."""

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.stub import Stubber
from quaymaster.adapters.aws_lambda.functions import LambdaFunctions
from quaymaster.adapters.memory.functions import MemoryFunctions
from quaymaster.errors import Unavailable
from quaymaster.ports import FunctionName, Functions

from tests.contract.aws import dead_client, refusing_client
from tests.contract.conftest import BareCloud

type Handled = list[tuple[FunctionName, str]]
EVENTS = ['{"a": 1}', '{"text": "é 界 \\u0000", "deep": [{"b": null}]}', json.dumps({"big": "x" * 100_000})]
WAITS = """
import json, os, time

def handler(event, context):
    while not os.path.exists({gate!r}):
        time.sleep(0.05)
    with open({path!r}, "a") as file:
        file.write(json.dumps([context.function_name, event]) + "\\n")
"""


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """Functions, and what they have handled by now; `release` lets them begin."""

    functions: Functions
    handled: Callable[[], Handled]
    release: Callable[[], object] = lambda: None


def in_memory() -> Iterator[Deployed]:
    memory = MemoryFunctions()
    yield Deployed(functions=memory, handled=lambda: memory.invoked)


def in_lambda(cloud: BareCloud) -> Iterator[Deployed]:
    """Both functions, made by hand: they write down what they are called with, once the gate is there."""
    namespace, client = f"contract-{uuid4().hex[:8]}", cloud.client("lambda")
    path, gate = cloud.folder / f"{namespace}.handled", cloud.folder / f"{namespace}.gate"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("waits.py", WAITS.format(gate=str(gate), path=str(path)))
    names = {f"{namespace}-{name}": name for name in FunctionName}
    for name in names:
        client.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=_role(cloud, namespace),
            Handler="waits.handler",
            Code={"ZipFile": packed.getvalue()},
            Timeout=60,
        )
    yield Deployed(
        functions=LambdaFunctions(namespace, lambda: client),
        handled=lambda: [(names[name], json.dumps(event)) for name, event in _lines(path)],
        release=gate.touch,
    )
    gate.touch()
    for name in names:
        client.delete_function(FunctionName=name)


def _role(cloud: BareCloud, name: str) -> str:
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam = cloud.client("iam")
    try:
        return iam.get_role(RoleName=name)["Role"]["Arn"]
    except iam.exceptions.NoSuchEntityException:
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        return iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]


def _lines(path: Path) -> list[tuple[str, Any]]:
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(params=["memory", pytest.param("local", marks=pytest.mark.local)])
def deployed(request: pytest.FixtureRequest) -> Iterator[Deployed]:
    if request.param == "memory":
        yield from in_memory()
    else:
        yield from in_lambda(request.getfixturevalue("bare_cloud"))


def wait_handled(deployed: Deployed, count: int) -> Handled:
    """What was handled, once it is so many events."""
    until = time.monotonic() + 60
    while len(handled := deployed.handled()) < count:
        assert time.monotonic() < until, handled
        time.sleep(0.05)
    return handled


@pytest.mark.parametrize("name", FunctionName)
def test_each_event_is_handled_by_the_function_that_is_named_and_by_no_other(
    deployed: Deployed, name: FunctionName
) -> None:
    deployed.release()
    for event in EVENTS:
        deployed.functions.invoke(name, event)
    handled = wait_handled(deployed, len(EVENTS))
    assert {found for found, _ in handled} == {name}
    wanted = sorted(json.dumps(json.loads(event)) for event in EVENTS)
    assert sorted(json.dumps(json.loads(event)) for _, event in handled) == wanted


@pytest.mark.local
def test_nobody_waits_until_an_event_is_handled(bare_cloud: BareCloud) -> None:
    for deployed in in_lambda(bare_cloud):
        deployed.functions.invoke(FunctionName.RECEIVE_TASK_EVENTS, EVENTS[0])
        # The function waits for the gate, and we are here already.
        assert deployed.handled() == []
        deployed.release()
        assert len(wait_handled(deployed, 1)) == 1


def test_what_lambda_is_sent_is_what_its_model_takes() -> None:
    client = dead_client("lambda")
    wanted = {"FunctionName": "north-receive-task-events", "InvocationType": "Event", "Payload": b'{"a": 1}'}
    with Stubber(client) as stubber:
        stubber.add_response("invoke", {"StatusCode": 202}, wanted)
        LambdaFunctions("north", lambda: client).invoke(FunctionName.RECEIVE_TASK_EVENTS, '{"a": 1}')
        stubber.assert_no_pending_responses()


def away(kind: str) -> Functions:
    if kind == "memory":
        memory = MemoryFunctions()
        memory.down = "lambda is away"
        return memory
    client = dead_client("lambda") if kind == "dead" else refusing_client("lambda", "AccessDeniedException", "no", 403)
    return LambdaFunctions("north", lambda: client)


@pytest.mark.parametrize("kind", ["memory", "dead", "denied"])
def test_a_function_that_cannot_be_invoked_is_unavailable(kind: str) -> None:
    with pytest.raises(Unavailable, match="lambda"):
        away(kind).invoke(FunctionName.RECEIVE_WORKER_EVENTS, "{}")


@pytest.mark.local
def test_a_function_that_is_not_deployed_is_unavailable(bare_cloud: BareCloud) -> None:
    client = bare_cloud.client("lambda")
    with pytest.raises(Unavailable, match="ResourceNotFoundException"):
        LambdaFunctions("nowhere", lambda: client).invoke(FunctionName.RECEIVE_TASK_EVENTS, "{}")
