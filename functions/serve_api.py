"""The HTTP API behind the Function URL."""

from typing import Any

from quaymaster import cold_start
from quaymaster.api.application import Api
from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.domain.cost import TaskSize
from quaymaster.wiring import functions, logged, ports, settings

SETTINGS = settings()
DEPLOYMENT = Deployment(
    namespace=SETTINGS.namespace,
    ssm_prefix=SETTINGS.ssm_prefix,
    bucket=SETTINGS.bucket,
    task_size=TaskSize(cpu=SETTINGS.worker_cpu, memory=SETTINGS.worker_memory),
    architecture=SETTINGS.worker_architecture,
    region=SETTINGS.region,
    prices=SETTINGS.fargate_prices,
)
APPLICATION = Api(ports=ports(), functions=functions(), deployment=DEPLOYMENT).application()


@logged
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request; IAM has let it through."""
    return APPLICATION.resolve(event, context)


cold_start.over()
