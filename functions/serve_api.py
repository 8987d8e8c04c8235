"""The HTTP API behind the Function URL."""

from functools import cache
from typing import Any

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver
from longshore import wiring
from longshore.api.application import Api
from longshore.dispatcher.deployment import Deployment


@cache
def application() -> LambdaFunctionUrlResolver:
    """The API over this deployment."""
    settings = wiring.settings()
    deployment = Deployment(namespace=settings.namespace, ssm_prefix=settings.ssm_prefix, bucket=settings.bucket)
    return Api(ports=wiring.ports(), deployment=deployment, dead_letters=wiring.dead_letters()).application()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request; IAM has let it through."""
    return application().resolve(event, context)
