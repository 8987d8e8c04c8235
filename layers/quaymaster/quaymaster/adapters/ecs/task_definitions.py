"""A pool's own task definition: the model of the template with the pool's secrets and settings, or another image."""

from typing import TYPE_CHECKING, Any, cast

from quaymaster.errors import Refused
from quaymaster.ports import TaskSettings

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import RegisterTaskDefinitionRequestTypeDef, TaskDefinitionTypeDef

TOKEN_SECRET = "QUAYMASTER_TOKEN"
KEY_SECRET = "QUAYMASTER_POOL_PRIVATE_KEY"

_KEPT = frozenset(
    {
        "taskRoleArn",
        "executionRoleArn",
        "networkMode",
        "volumes",
        "placementConstraints",
        "requiresCompatibilities",
        "cpu",
        "memory",
        "pidMode",
        "ipcMode",
        "proxyConfiguration",
        "ephemeralStorage",
        "runtimePlatform",
    }
)
"""What RegisterTaskDefinition takes of what DescribeTaskDefinition tells; the rest is ECS's own bookkeeping."""


def image_of(model: "TaskDefinitionTypeDef", container: str) -> str:
    """The image of the workers; empty where there is no container of that name."""
    found = [one.get("image", "") for one in model.get("containerDefinitions", []) if one.get("name") == container]
    return found[0] if found else ""


def with_image(model: "TaskDefinitionTypeDef", container: str, image: str) -> "RegisterTaskDefinitionRequestTypeDef":
    """The request that registers a pool's task definition again, with another image for its workers."""
    containers = [dict(found) for found in model.get("containerDefinitions", [])]
    for found in containers:
        if found.get("name") == container:
            found["image"] = image
    made = _kept(model) | {"family": model.get("family", ""), "containerDefinitions": containers}
    return cast("RegisterTaskDefinitionRequestTypeDef", made)


def of_pool(
    model: "TaskDefinitionTypeDef", family: str, container: str, settings: TaskSettings
) -> "RegisterTaskDefinitionRequestTypeDef":
    """The request that registers the pool's task definition.

    The parameters are named, not read: ECS fetches them with the execution role as a task starts. Raises Refused when
    the model has no container of that name.
    """
    containers = [dict(found) for found in model.get("containerDefinitions", [])]
    workers = [found for found in containers if found.get("name") == container]
    if not workers:
        raise Refused("task definition", model.get("family", "?"), f"one with a container named {container}")
    for worker in workers:
        worker["secrets"] = _secrets(worker, settings)
        if settings.image is not None:
            worker["image"] = settings.image
    made = _kept(model) | {"family": family, "containerDefinitions": containers}
    if settings.cpu is not None:
        made["cpu"] = str(settings.cpu)
    if settings.memory is not None:
        made["memory"] = str(settings.memory)
    if settings.architecture is not None:
        platform = {"cpuArchitecture": settings.architecture.upper(), "operatingSystemFamily": "LINUX"}
        made["runtimePlatform"] = platform
    if settings.task_role is not None:
        made["taskRoleArn"] = settings.task_role
    return cast("RegisterTaskDefinitionRequestTypeDef", made)


def _kept(model: "TaskDefinitionTypeDef") -> dict[str, Any]:
    # Empty texts are no values: ECS knows no pidMode named "".
    return {name: value for name, value in model.items() if name in _KEPT and value != ""}


def _secrets(worker: dict[str, Any], settings: TaskSettings) -> list[dict[str, str]]:
    own = {TOKEN_SECRET: settings.token_parameter, KEY_SECRET: settings.key_parameter}
    others = [secret for secret in worker.get("secrets", []) if secret["name"] not in own]
    return [*others, *({"name": name, "valueFrom": parameter} for name, parameter in own.items())]
