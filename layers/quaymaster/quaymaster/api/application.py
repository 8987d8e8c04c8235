"""The API as one application: what it needs, its routes, its own description."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response, content_types
from aws_lambda_powertools.event_handler.api_gateway import ApiGatewayResolver

from quaymaster import __version__
from quaymaster.api.dead_letters import add_dead_letter_routes
from quaymaster.api.pools import add_pool_routes
from quaymaster.api.problems import answer_problems
from quaymaster.api.runs import add_run_routes
from quaymaster.api.steering import add_steering_routes
from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.domain.api import About
from quaymaster.domain.requests import check_text
from quaymaster.ports import Functions, Ports


@dataclass(frozen=True, kw_only=True)
class Api:
    """What the API answers with."""

    ports: Ports
    functions: Functions
    deployment: Deployment

    def application(self) -> LambdaFunctionUrlResolver:
        """A resolver of Function URL events. Who may call is decided before it, by IAM."""
        app = LambdaFunctionUrlResolver(enable_validation=True)
        answer_problems(app, self.ports)
        app.use([refuse_what_is_no_text])  # pyright: ignore[reportUnknownMemberType]
        add_pool_routes(app, self.ports, self.deployment)
        add_run_routes(app, self.ports, self.deployment)
        add_steering_routes(app, self.ports, self.deployment)
        add_dead_letter_routes(app, self.ports, self.functions)
        self._add_own_routes(app)
        return app

    def _add_own_routes(self, app: LambdaFunctionUrlResolver) -> None:
        @app.get("/about", summary="What answers here")
        def about() -> About:  # pyright: ignore[reportUnusedFunction]
            return About(
                version=__version__, namespace=self.deployment.namespace, ssm_prefix=self.deployment.ssm_prefix
            )

        @app.get("/openapi.json", include_in_schema=False)
        def openapi() -> Response[str]:  # pyright: ignore[reportUnusedFunction]
            return Response(status_code=200, content_type=content_types.APPLICATION_JSON, body=describe(app))


def refuse_what_is_no_text(app: ApiGatewayResolver, next_middleware: Callable[..., Response[Any]]) -> Response[Any]:
    """A body whose text nothing behind the API can carry is refused by its field, whatever route it is for."""
    body: str | None = app.current_event.decoded_body
    try:
        found: object = json.loads(body) if body else None
    except (ValueError, RecursionError):
        # Not JSON: refused as such by the route's own validation.
        found = None
    check_text(found)
    return next_middleware(app)


def describe(app: LambdaFunctionUrlResolver) -> str:
    """The OpenAPI document."""
    options: dict[str, Any] = {"title": "Quaymaster", "version": __version__}
    return app.get_openapi_json_schema(**options)
