"""The errors of the ECS API, as its clients see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class EcsError(Exception):
    """An error answer: `code` is what boto3 shows as `Error.Code`."""

    code = "ClientException"
    status = 400

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {"__type": self.code, "message": str(self)}


class ClientException(EcsError):
    """Something the request names does not exist or is not in the state it needs."""


class InvalidParameterException(EcsError):
    """A parameter is missing or wrong."""

    code = "InvalidParameterException"


class ClusterNotFoundException(EcsError):
    """No such cluster."""

    code = "ClusterNotFoundException"


class AccessDeniedException(EcsError):
    """The caller's policies do not allow it."""

    code = "AccessDeniedException"


class Unauthenticated(EcsError):
    """The request is not signed, or not signed by anyone known; `code` says which."""

    status = 403

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnknownOperation(EcsError):
    """No such operation."""

    code = "UnknownOperationException"


class ConflictException(EcsError):
    """The client token was used before with other parameters; `resource_ids` are the tasks it started."""

    code = "ConflictException"

    def __init__(self, message: str, resource_ids: Sequence[str]) -> None:
        super().__init__(message)
        self.resource_ids = tuple(resource_ids)

    def body(self) -> dict[str, Any]:
        """The JSON body, with the ARNs of the tasks that the token started."""
        return {**super().body(), "resourceIds": list(self.resource_ids)}
