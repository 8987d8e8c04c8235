"""The settings of the functions, read once from the environment that `template.yaml` sets."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from quaymaster.domain.complaints import allowed
from quaymaster.domain.ids import NAMESPACE
from quaymaster.domain.prices import Architecture
from quaymaster.errors import Refused


def _words(found: object) -> object:
    return tuple(word.strip() for word in found.split(",") if word.strip()) if isinstance(found, str) else found


def _none_if_empty(found: object) -> object:
    return None if found == "" else found


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Text = Annotated[str, Field(min_length=1)]
OptionalText = Annotated[str | None, BeforeValidator(_none_if_empty)]


class Settings(BaseModel):
    """Where this deployment's parts are. The alias of each field is its environment variable."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    namespace: Annotated[str, Field(alias="QUAYMASTER_NAMESPACE", pattern=rf"^{NAMESPACE.pattern}$")]
    table: Annotated[Text, Field(alias="QUAYMASTER_TABLE")]
    bucket: Annotated[Text, Field(alias="QUAYMASTER_BUCKET")]
    internal_queue_url: Annotated[str, Field(alias="QUAYMASTER_INTERNAL_QUEUE_URL", pattern=r"^https?://")]
    dead_letter_queue_url: Annotated[str, Field(alias="QUAYMASTER_DEAD_LETTER_QUEUE_URL", pattern=r"^https?://")]
    ssm_prefix: Annotated[str, Field(alias="QUAYMASTER_SSM_PREFIX", pattern=r"^/")]

    ecs_cluster: Annotated[Text, Field(alias="QUAYMASTER_ECS_CLUSTER")]
    ecs_endpoint: Annotated[OptionalText, Field(alias="QUAYMASTER_ECS_ENDPOINT")] = None
    subnets: Annotated[Words, Field(alias="QUAYMASTER_SUBNETS")] = ()
    security_groups: Annotated[Words, Field(alias="QUAYMASTER_SECURITY_GROUPS")] = ()
    assign_public_ip: Annotated[Literal["ENABLED", "DISABLED"], Field(alias="QUAYMASTER_ASSIGN_PUBLIC_IP")] = "ENABLED"
    worker_task_definition: Annotated[Text, Field(alias="QUAYMASTER_WORKER_TASK_DEFINITION")]
    worker_cpu: Annotated[int, Field(alias="QUAYMASTER_WORKER_CPU", ge=256)] = 2048
    worker_memory: Annotated[int, Field(alias="QUAYMASTER_WORKER_MEMORY", ge=512)] = 4096
    worker_architecture: Annotated[Architecture, Field(alias="QUAYMASTER_WORKER_ARCHITECTURE")] = Architecture.X86_64
    fargate_prices: Annotated[str, Field(alias="QUAYMASTER_FARGATE_PRICES")] = ""

    runner_image: Annotated[OptionalText, Field(alias="QUAYMASTER_RUNNER_IMAGE")] = None

    region: Annotated[Text, Field(alias="AWS_REGION")]
    endpoint_url: Annotated[OptionalText, Field(alias="AWS_ENDPOINT_URL")] = None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in an environment. Raises Refused that names every variable that is missing or wrong."""
    try:
        return Settings.model_validate(dict(environ))
    except ValidationError as error:
        wrong = [_complaint(cast("Mapping[str, Any]", complaint)) for complaint in error.errors()]
        raise Refused("environment", "; ".join(wrong), "what template.yaml sets for the functions") from None


def _complaint(complaint: Mapping[str, Any]) -> str:
    name = complaint["loc"][0]
    return f"no {name}" if complaint["type"] == "missing" else f"{name}: {allowed(complaint)}"
