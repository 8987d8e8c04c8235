"""Workers as Fargate tasks: `ports.Tasks`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from quaymaster.adapters.aws.errors import THROTTLED, code_of, may_pass, text_of, translated
from quaymaster.adapters.ecs.task_definitions import image_of, of_pool, with_image
from quaymaster.adapters.ecs.vicinity import Vicinity
from quaymaster.domain.failure_table import error_of, refusal_of
from quaymaster.domain.ids import CONTAINER
from quaymaster.domain.pool import Launch, Pool
from quaymaster.domain.trouble import TroubleKind
from quaymaster.errors import NoCapacity, QuaymasterError, Refused, Throttled, Unavailable
from quaymaster.ports import Started, TaskSettings, pages

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import (
        FailureTypeDef,
        NetworkConfigurationTypeDef,
        RegisterTaskDefinitionResponseTypeDef,
    )

MAX_REASON = 255


@dataclass(frozen=True, kw_only=True)
class TaskPlace:
    """Where tasks run, and the task definition that those of the pools are made from."""

    namespace: str
    cluster: str
    model: str
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    public_ip: bool = True


class EcsTasks:
    """Fulfils `ports.Tasks`."""

    def __init__(self, place: TaskPlace, client: Callable[[], "ECSClient"], vicinity: Vicinity) -> None:
        self._place = place
        self._client = client
        self._vicinity = vicinity

    def run(self, launch: Launch, pool: Pool) -> Started:
        options: dict[str, Any] = {"launchType": "FARGATE"}
        if launch.spot:
            options = {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]}
        if self._place.subnets:
            options["networkConfiguration"] = self._network()
        with translated("ecs", _judged_once):
            try:
                answer = self._client().run_task(
                    cluster=self._place.cluster,
                    taskDefinition=launch.task_definition,
                    count=launch.count,
                    clientToken=launch.token,
                    startedBy=launch.id,
                    overrides={
                        "containerOverrides": [
                            {"name": CONTAINER, "environment": [{"name": "QUAYMASTER_LAUNCH", "value": launch.id}]}
                        ]
                    },
                    **options,
                )
            except ClientError as error:
                if code_of(error) != "ConflictException":
                    raise
                return Started(tasks=self._adopted(error, launch))
        arns = tuple(task["taskArn"] for task in answer["tasks"] if "taskArn" in task)
        failures = answer["failures"]
        return Started(arns, tuple(_line(failure) for failure in failures), _kind(failures))

    def stop(self, task_arn: str, reason: str) -> None:
        with translated("ecs"):
            try:
                self._client().stop_task(cluster=self._place.cluster, task=task_arn, reason=reason[:MAX_REASON])
            except ClientError as error:
                if not _no_such_task(error):
                    raise

    def of_launch(self, launch: Launch) -> list[str]:
        with translated("ecs"):
            # By its API's reference, `startedBy` must be the only filter that is used.
            found = self._client().get_paginator("list_tasks")
            answers = found.paginate(cluster=self._place.cluster, startedBy=launch.id)
            running = [arn for answer in answers for arn in answer["taskArns"]]
            # A task whose stop has been asked for leaves that list at once, and may act for minutes more.
            others = [arn for arn in launch.tasks if arn not in running]
            return running + [arn for batch in pages(others, 100) for arn in self._not_stopped(batch)]

    def of_pool(self, pool_id: str) -> list[str]:
        with translated("ecs"):
            found = self._client().get_paginator("list_tasks")
            answers = found.paginate(cluster=self._place.cluster, family=self._family(pool_id))
            return [arn for answer in answers for arn in answer["taskArns"]]

    def started_by(self, task_arns: Sequence[str]) -> dict[str, str]:
        with translated("ecs"):
            tasks = self._client().describe_tasks(cluster=self._place.cluster, tasks=task_arns)["tasks"]
        to_run = [task for task in tasks if task.get("desiredStatus") != "STOPPED"]
        return {task.get("taskArn", ""): task.get("startedBy", "") for task in to_run}

    def running_since(self, task_arns: Sequence[str]) -> dict[str, datetime]:
        with translated("ecs"):
            tasks = self._client().describe_tasks(cluster=self._place.cluster, tasks=task_arns)["tasks"]
        running = [task for task in tasks if task.get("lastStatus") == task.get("desiredStatus") == "RUNNING"]
        return {task["taskArn"]: task["startedAt"] for task in running if "taskArn" in task and "startedAt" in task}

    def check(self, image: str | None) -> None:
        place = self._place
        self._vicinity.check_network(place.subnets, place.security_groups)
        with translated("ecs", _judged):
            model = self._client().describe_task_definition(taskDefinition=place.model)["taskDefinition"]
        _, _, _, region, account, _ = model.get("taskDefinitionArn", "").split(":", 5)
        self._vicinity.check_image(image or image_of(model, CONTAINER), account, region)

    def define(self, pool_id: str, settings: TaskSettings) -> str:
        """Raises Refused when ECS will not have it, Unavailable when it does not answer. Repeating makes a revision."""
        client = self._client()
        with translated("ecs", _judged):
            model = client.describe_task_definition(taskDefinition=self._place.model)["taskDefinition"]
            made = client.register_task_definition(**of_pool(model, self._family(pool_id), CONTAINER, settings))
        return _arn(made)

    def define_image(self, task_definition: str, image: str) -> str:
        client = self._client()
        with translated("ecs", _judged):
            model = client.describe_task_definition(taskDefinition=task_definition)["taskDefinition"]
            made = client.register_task_definition(**with_image(model, CONTAINER, image))
        return _arn(made)

    def definitions(self, pool_id: str) -> list[str]:
        with translated("ecs"):
            pages_of = self._client().get_paginator("list_task_definitions")
            answers = pages_of.paginate(familyPrefix=self._family(pool_id), status="ACTIVE")
            return [arn for answer in answers for arn in answer["taskDefinitionArns"]]

    def retire(self, task_definition: str, younger: timedelta) -> bool:
        client = self._client()
        with translated("ecs"):
            found = client.describe_task_definition(taskDefinition=task_definition)["taskDefinition"]
            registered_at = found.get("registeredAt")
            if not registered_at or datetime.now(UTC) - registered_at < younger:
                return False
            client.deregister_task_definition(taskDefinition=task_definition)
        return True

    def _family(self, pool_id: str) -> str:
        return f"{self._place.namespace}-pool-{pool_id}"

    def _not_stopped(self, arns: Sequence[str]) -> list[str]:
        tasks = self._client().describe_tasks(cluster=self._place.cluster, tasks=arns)["tasks"]
        return [task.get("taskArn", "") for task in tasks if task.get("lastStatus") != "STOPPED"]

    def _network(self) -> "NetworkConfigurationTypeDef":
        return {
            "awsvpcConfiguration": {
                "subnets": list(self._place.subnets),
                "securityGroups": list(self._place.security_groups),
                "assignPublicIp": "ENABLED" if self._place.public_ip else "DISABLED",
            }
        }

    def _adopted(self, error: ClientError, launch: Launch) -> tuple[str, ...]:
        # The same token with other parameters: the tasks of the first call are there, and ECS names them.
        named: object = error.response.get("resourceIds")
        found = [str(arn) for arn in named] if isinstance(named, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return tuple(found or self.of_launch(launch))


def _arn(answer: "RegisterTaskDefinitionResponseTypeDef") -> str:
    arn = answer["taskDefinition"].get("taskDefinitionArn")
    if not arn:
        raise Unavailable("ecs", "RegisterTaskDefinition named no ARN")
    return arn


def _kind(failures: Sequence["FailureTypeDef"]) -> TroubleKind:
    """The worst of them: one that stays is not cured by waiting for the others."""
    kinds = {refusal_of(failure.get("reason", "")).kind for failure in failures}
    return TroubleKind.PERMANENT if TroubleKind.PERMANENT in kinds else TroubleKind.CAPACITY


def _line(failure: "FailureTypeDef") -> str:
    said = [failure.get("reason", "no reason"), failure.get("detail", ""), failure.get("arn", "")]
    return " ".join(word for word in said if word)


def _judged(error: ClientError) -> QuaymasterError:
    """What to do about it, as a type."""
    text = text_of(error)
    kind = TroubleKind.THROTTLED if code_of(error) in THROTTLED else error_of(text).kind
    if kind is TroubleKind.CAPACITY:
        return NoCapacity("ecs", text)
    if kind is TroubleKind.THROTTLED:
        return Throttled("ecs", text)
    if may_pass(error):
        return Unavailable("ecs", text)
    return Refused("task", text, "what ECS and the functions' roles allow; see Subnets, SecurityGroups and the roles")


def _judged_once(error: ClientError) -> QuaymasterError:
    """The same of a call that starts something: refused as it was repeated, it may have been made the first time.

    ECS lists a task some time after it was started, so that asking at once would tell nothing.
    """
    judged = _judged(error)
    if error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) and isinstance(judged, Refused | NoCapacity):
        return Unavailable("ecs", f"refused when it was repeated: {text_of(error)}")
    return judged


def _no_such_task(error: ClientError) -> bool:
    said = text_of(error).lower()
    return code_of(error) == "InvalidParameterException" and "task" in said and "not found" in said
