"""The deployment's functions: `ports.Functions` over Lambda."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from quaymaster.adapters.aws.errors import translated
from quaymaster.ports import FunctionName

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


class LambdaFunctions:
    """Fulfils `ports.Functions`."""

    def __init__(self, namespace: str, client: Callable[[], "LambdaClient"]) -> None:
        self._namespace = namespace
        self._client = client

    def invoke(self, name: FunctionName, event: str) -> None:
        with translated("lambda"):
            # Asynchronous: the function's own retries and its dead letters apply, as to the event's first coming.
            self._client().invoke(
                FunctionName=f"{self._namespace}-{name}", InvocationType="Event", Payload=event.encode()
            )
