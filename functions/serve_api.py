"""The HTTP API behind the Function URL."""

from typing import Any

from longshore.api.application import Api
from longshore.dispatcher.deployment import Deployment
from longshore.wiring import functions, logged, ports, settings

SETTINGS = settings()
DEPLOYMENT = Deployment(namespace=SETTINGS.namespace, ssm_prefix=SETTINGS.ssm_prefix, bucket=SETTINGS.bucket)
APPLICATION = Api(ports=ports(), functions=functions(), deployment=DEPLOYMENT).application()


@logged
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request; IAM has let it through."""
    return APPLICATION.resolve(event, context)
