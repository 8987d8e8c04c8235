"""Functions are invoked by their names in the deployment, asynchronously; what Lambda says otherwise is Unavailable."""

from typing import Any, cast

import pytest
from quaymaster.adapters.aws_lambda.functions import LambdaFunctions
from quaymaster.adapters.memory.functions import MemoryFunctions
from quaymaster.errors import Unavailable
from quaymaster.ports import FunctionName, Functions

from tests.contract.aws import dead_client, refusing_client


class Recorder:
    """Takes what a Lambda client would send."""

    def __init__(self) -> None:
        self.calls: list[dict[str, object]] = []

    def invoke(self, **call: object) -> None:
        self.calls.append(call)


def test_an_event_is_handed_to_the_deployments_own_function() -> None:
    recorder = Recorder()
    LambdaFunctions("north", lambda: cast(Any, recorder)).invoke(FunctionName.RECEIVE_TASK_EVENTS, '{"a": 1}')
    assert recorder.calls == [
        {"FunctionName": "north-receive-task-events", "InvocationType": "Event", "Payload": b'{"a": 1}'}
    ]


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
