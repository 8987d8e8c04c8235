"""Errors on HTTP: the one place that says which status each has. No answer holds a secret or a traceback."""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import Response, content_types
from aws_lambda_powertools.event_handler.api_gateway import ApiGatewayResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError

from quaymaster.dispatcher.users.pools import NameTaken
from quaymaster.domain.api import Problem
from quaymaster.domain.requests import refuse_field
from quaymaster.errors import Busy, Conflict, Lost, NotFound, QuaymasterError, Refused, Unavailable
from quaymaster.ports import Ports

STATUS: dict[type[QuaymasterError], HTTPStatus] = {
    Refused: HTTPStatus.BAD_REQUEST,
    NotFound: HTTPStatus.NOT_FOUND,
    NameTaken: HTTPStatus.CONFLICT,
    Conflict: HTTPStatus.CONFLICT,
    Lost: HTTPStatus.CONFLICT,
    Busy: HTTPStatus.SERVICE_UNAVAILABLE,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
RETRY_AFTER_SECONDS = 2


def answer_problems(app: ApiGatewayResolver, ports: Ports) -> None:
    """Have every error that a route raises answered as a `Problem`."""
    register: Callable[..., Any] = app.exception_handler

    @register(QuaymasterError)
    def expected(error: QuaymasterError) -> Response[str]:  # pyright: ignore[reportUnusedFunction]
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
        if status is None:
            return unexpected(error)
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            ports.log("api_unavailable", {"error": str(error)})
        shown = "changed by someone else meanwhile; try again" if isinstance(error, Lost) else str(error)
        return _answer(status, shown, error.field if isinstance(error, Refused) else None)

    @register(RequestValidationError)
    def malformed(error: RequestValidationError) -> Response[str]:  # pyright: ignore[reportUnusedFunction]
        refused = _refusal(error)
        return _answer(HTTPStatus.BAD_REQUEST, str(refused), refused.field)

    @register(NotFoundError)
    def no_route(error: NotFoundError) -> Response[str]:  # pyright: ignore[reportUnusedFunction]
        found = f"{app.current_event.http_method} {app.current_event.path}"  # pyright: ignore[reportUnknownMemberType]
        return _answer(HTTPStatus.NOT_FOUND, f"{found} is not part of this API; GET /openapi.json describes it")

    @register(Exception)
    def unexpected(error: Exception) -> Response[str]:
        # Only the error's kind: its text may carry what a caller must not see.
        ports.log("api_failed", {"error": type(error).__name__, "at": _place(error)})
        return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "this failed inside; the log of serve_api says where")


def _refusal(error: RequestValidationError) -> Refused:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    if first["type"] == "json_invalid":
        return Refused("request", "a body that cannot be read", "a JSON object")
    inner = location[1:] if location[0] in ("body", "query", "path") else location
    return refuse_field(inner, first)


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""


def _answer(status: HTTPStatus, error: str, field: str | None = None) -> Response[str]:
    busy = status is HTTPStatus.SERVICE_UNAVAILABLE
    return Response(
        status_code=status.value,
        content_type=content_types.APPLICATION_JSON,
        body=json.dumps(Problem(error=error, field=field).model_dump(exclude_none=True)),
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)} if busy else {},
    )
