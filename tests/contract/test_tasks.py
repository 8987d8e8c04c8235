"""What every task service promises: in memory, and in the local cloud's ECS (moto knows no client tokens)."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from quaymaster.adapters.ecs.task_definitions import of_pool, with_image
from quaymaster.adapters.ecs.tasks import EcsTasks, TaskPlace
from quaymaster.adapters.ecs.vicinity import Vicinity
from quaymaster.adapters.memory.tasks import MemoryTasks
from quaymaster.domain.ids import task_id
from quaymaster.domain.pool import Launch
from quaymaster.domain.prices import Architecture
from quaymaster.errors import Busy, NoCapacity, Refused, Throttled, Unavailable
from quaymaster.ports import Tasks, TaskSettings

from tests.contract.aws import dead_client, refusing_client
from tests.contract.conftest import BareCloud
from tests.shared.memory.records import OTHER_POOL, POOL, a_launch, a_pool

NAMESPACE = "contract"
SETTINGS = TaskSettings(token_parameter="/quaymaster/contract/token", key_parameter="/quaymaster/contract/key")


@dataclass(frozen=True)
class Fleet:
    """A task service and the task definition of a pool in it."""

    tasks: Tasks
    definition: str
    come_up: Callable[[str], None]
    """See that a task runs."""

    def launch(self, count: int = 1) -> Launch:
        return replace(a_launch(), id=uuid4().hex[:26].upper(), count=count, task_definition=self.definition)


def in_memory(_request: pytest.FixtureRequest) -> Iterator[Fleet]:
    tasks = MemoryTasks(namespace=NAMESPACE)
    yield Fleet(tasks, tasks.define(POOL, SETTINGS), lambda arn: tasks.come_up(arn, datetime.now(UTC)))


def in_local_cloud(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    cloud: BareCloud = request.getfixturevalue("bare_cloud")
    yield local_fleet(cloud)
    for arn in cloud.ecs().list_tasks(cluster=NAMESPACE)["taskArns"]:
        cloud.ecs().stop_task(cluster=NAMESPACE, task=arn)


def local_fleet(cloud: BareCloud) -> Fleet:
    tasks = EcsTasks(prepare(cloud), cloud.ecs, vicinity(cloud))

    def runs(arn: str) -> None:
        until_none(lambda: [] if tasks.running_since([arn]) else [arn])

    return Fleet(tasks, tasks.define(POOL, SETTINGS), runs)


def vicinity(cloud: BareCloud) -> Vicinity:
    return Vicinity(lambda: cloud.client("ec2"), lambda: cloud.client("ecr"))


def prepare(cloud: BareCloud) -> TaskPlace:
    """The cluster, the secrets, the execution role and the model, as the template makes them."""
    trust = '{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}'
    role = f"execution-{uuid4().hex}"
    arn = cloud.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    policy = '{"Statement": [{"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": "*"}]}'
    cloud.client("iam").put_role_policy(RoleName=role, PolicyName="own", PolicyDocument=policy)
    for name in (SETTINGS.token_parameter, SETTINGS.key_parameter):
        cloud.client("ssm").put_parameter(Name=name, Value="secret", Type="SecureString", Overwrite=True)
    cloud.client("ecs").create_cluster(clusterName=NAMESPACE)
    model = cloud.ecs().register_task_definition(
        family=f"{NAMESPACE}-worker",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        executionRoleArn=arn,
        containerDefinitions=[{"name": "worker", "image": "worker:1", "essential": True, "stopTimeout": 2}],
    )["taskDefinition"]["taskDefinitionArn"]
    return TaskPlace(namespace=NAMESPACE, cluster=NAMESPACE, model=model, subnets=("subnet-local",))


LOCAL = pytest.param(in_local_cloud, id="local", marks=pytest.mark.local)


@pytest.fixture(params=[pytest.param(in_memory, id="memory"), LOCAL])
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    yield from request.param(request)


def until_none(found: Callable[[], list[str]]) -> None:
    deadline = time.monotonic() + 60
    while left := found():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_a_launch_starts_as_many_tasks_as_it_counts(fleet: Fleet) -> None:
    launch = fleet.launch(count=3)
    started = fleet.tasks.run(launch, a_pool())
    assert len(set(started.tasks)) == 3
    assert started.failures == ()
    assert sorted(fleet.tasks.of_launch(launch)) == sorted(started.tasks)
    assert all(len(task_id(arn)) == 32 for arn in started.tasks)


def test_a_launch_on_spot_starts_like_any_other(fleet: Fleet) -> None:
    launch = replace(fleet.launch(2), spot=True)
    assert len(fleet.tasks.run(launch, a_pool()).tasks) == 2
    assert len(fleet.tasks.of_launch(launch)) == 2


def test_repeating_a_launch_starts_nothing_more(fleet: Fleet) -> None:
    launch = fleet.launch(count=2)
    first, second = fleet.tasks.run(launch, a_pool()), fleet.tasks.run(launch, a_pool())
    assert sorted(second.tasks) == sorted(first.tasks)
    assert len(fleet.tasks.of_launch(launch)) == 2


def test_the_same_token_with_other_parameters_adopts_the_tasks_that_it_has_started(fleet: Fleet) -> None:
    launch = fleet.launch(count=2)
    first = fleet.tasks.run(launch, a_pool())
    second = fleet.tasks.run(replace(launch, count=1), a_pool())
    assert sorted(second.tasks) == sorted(first.tasks)


def test_the_next_try_of_a_launch_starts_tasks_of_its_own(fleet: Fleet) -> None:
    launch = fleet.launch()
    first = fleet.tasks.run(launch, a_pool())
    second = fleet.tasks.run(replace(launch, attempt=2), a_pool())
    assert set(first.tasks).isdisjoint(second.tasks)
    assert set(fleet.tasks.of_launch(launch)) == {*first.tasks, *second.tasks}


def test_a_launch_knows_its_own_tasks_only(fleet: Fleet) -> None:
    mine, other = fleet.launch(), fleet.launch()
    started = fleet.tasks.run(mine, a_pool())
    fleet.tasks.run(other, a_pool())
    assert fleet.tasks.of_launch(mine) == list(started.tasks)
    assert fleet.tasks.of_launch(fleet.launch()) == []


def test_a_pools_tasks_are_listed_by_their_family_with_who_started_them(fleet: Fleet) -> None:
    mine, other = fleet.launch(count=2), fleet.launch()
    elsewhere = replace(fleet.launch(), task_definition=fleet.tasks.define(OTHER_POOL, SETTINGS))
    started = {arn: launch.id for launch in (mine, other) for arn in fleet.tasks.run(launch, a_pool()).tasks}
    (stranger,) = fleet.tasks.run(elsewhere, a_pool()).tasks
    listed = fleet.tasks.of_pool(POOL)
    assert set(started) <= set(listed)
    assert stranger not in listed
    assert fleet.tasks.started_by([*started, stranger]) == {**started, stranger: elsewhere.id}
    fleet.tasks.stop(stranger, "no longer needed")
    assert fleet.tasks.of_pool(OTHER_POOL) == []
    assert fleet.tasks.started_by([stranger]) == {}


def test_a_task_that_runs_says_since_when_until_it_is_to_stop(fleet: Fleet) -> None:
    before = datetime.now(UTC)
    [arn, other] = fleet.tasks.run(fleet.launch(count=2), a_pool()).tasks
    fleet.come_up(arn)
    since = fleet.tasks.running_since([arn])
    assert list(since) == [arn]
    # The service tells whole milliseconds.
    assert before - timedelta(milliseconds=1) <= since[arn] <= datetime.now(UTC)
    fleet.tasks.stop(arn, "no longer needed")
    fleet.tasks.stop(other, "no longer needed")
    assert fleet.tasks.running_since([arn, other]) == {}


def test_a_stopped_task_is_no_more_and_stopping_it_again_is_fine(fleet: Fleet) -> None:
    launch = fleet.launch()
    [arn] = fleet.tasks.run(launch, a_pool()).tasks
    answered = replace(launch, tasks=(arn,))
    fleet.tasks.stop(arn, "no longer needed" * 50)
    until_none(lambda: fleet.tasks.of_launch(answered))
    fleet.tasks.stop(arn, "again")


def test_a_task_that_ecs_has_forgotten_counts_as_stopped(fleet: Fleet) -> None:
    [arn] = fleet.tasks.run(fleet.launch(), a_pool()).tasks
    unknown = arn.rpartition("/")[0] + "/" + "f" * 32
    fleet.tasks.stop(unknown, "gone long ago")


def test_defining_a_pools_task_again_makes_another_revision_of_its_family(fleet: Fleet) -> None:
    again = fleet.tasks.define(POOL, SETTINGS)
    assert again != fleet.definition
    assert again.rpartition(":")[0] == fleet.definition.rpartition(":")[0]
    assert again.rpartition("/")[2].startswith(f"{NAMESPACE}-pool-{POOL}:")


@pytest.mark.local
def test_a_definition_with_another_image_is_a_revision_that_can_be_run_until_it_is_retired(fleet: Fleet) -> None:
    made = fleet.tasks.define_image(fleet.definition, "registry.example/red:1")
    assert made != fleet.definition
    assert made.rpartition(":")[0] == fleet.definition.rpartition(":")[0]
    assert {fleet.definition, made} <= set(fleet.tasks.definitions(POOL))
    launch = replace(fleet.launch(), task_definition=made)
    (task,) = fleet.tasks.run(launch, a_pool()).tasks
    assert not fleet.tasks.retire(made, younger=timedelta(hours=1))
    assert fleet.tasks.retire(made, younger=timedelta(0))
    assert made not in fleet.tasks.definitions(POOL)
    # What runs goes on.
    assert fleet.tasks.of_launch(launch) == [task]
    with pytest.raises(Refused):
        fleet.tasks.run(replace(fleet.launch(), task_definition=made), a_pool())


def test_a_task_gets_its_launch_and_its_secrets_and_nothing_of_them_is_an_override(bare_cloud: BareCloud) -> None:
    fleet = local_fleet(bare_cloud)
    launch = fleet.launch()
    [arn] = fleet.tasks.run(launch, a_pool()).tasks
    task = bare_cloud.ecs().describe_tasks(cluster=NAMESPACE, tasks=[arn])["tasks"][0]
    assert task["startedBy"] == launch.id
    assert task["launchType"] == "FARGATE"
    [override] = task["overrides"]["containerOverrides"]
    assert override["environment"] == [{"name": "QUAYMASTER_LAUNCH", "value": launch.id}]
    definition = bare_cloud.ecs().describe_task_definition(taskDefinition=fleet.definition)["taskDefinition"]
    assert definition["containerDefinitions"][0]["secrets"] == [
        {"name": "QUAYMASTER_TOKEN", "valueFrom": SETTINGS.token_parameter},
        {"name": "QUAYMASTER_POOL_PRIVATE_KEY", "valueFrom": SETTINGS.key_parameter},
    ]
    fleet.tasks.stop(arn, "enough")


def ecs(client: Any) -> EcsTasks:
    place = TaskPlace(namespace="quaymaster", cluster="quaymaster", model="quaymaster-worker", subnets=("subnet-1",))
    return EcsTasks(place, lambda: client, Vicinity(lambda: client, lambda: client))


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        ("ThrottlingException", "Rate exceeded", 400),
        ("InvalidParameterException", "Throttling: rate exceeded while describing subnets", 400),
        ("ClientException", "Capacity is unavailable at this time. Please try again later", 400),
        ("ServerException", "Service Unavailable. Please try again later.", 500),
        ("InternalError", "", 503),
    ],
)
def test_what_may_pass_is_unavailable(code: str, message: str, status: int) -> None:
    tasks = ecs(refusing_client("ecs", code, message, status))
    with pytest.raises(Unavailable, match=code):
        tasks.run(a_launch(), a_pool())


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("ThrottlingException", "Rate exceeded", Throttled),
        ("InvalidParameterException", "Throttling: rate exceeded while describing subnets", Throttled),
        ("ClientException", "Capacity is unavailable at this time. Please try again later", NoCapacity),
    ],
)
def test_being_throttled_is_told_from_a_want_of_capacity(code: str, message: str, kind: type[Unavailable]) -> None:
    with pytest.raises(kind, match=code):
        ecs(refusing_client("ecs", code, message, 400)).run(a_launch(), a_pool())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ClientException", "Capacity is unavailable at this time. Please try again later"),
        ("InvalidParameterException", "TaskDefinition is inactive"),
    ],
)
def test_a_refusal_of_a_repeated_call_leaves_open_whether_the_first_was_made(code: str, message: str) -> None:
    metadata = {"HTTPStatusCode": 400, "RetryAttempts": 1}
    client = refusing_client("ecs", code, message, 400, ResponseMetadata=metadata)
    with pytest.raises(Unavailable, match="repeated") as raised:
        ecs(client).run(a_launch(), a_pool())
    assert not isinstance(raised.value, NoCapacity)


def test_a_service_that_does_not_answer_is_unavailable() -> None:
    tasks = ecs(dead_client("ecs"))
    for call in (
        lambda: tasks.run(a_launch(), a_pool()),
        lambda: tasks.stop("arn", "reason"),
        lambda: tasks.of_launch(a_launch()),
        lambda: tasks.of_pool(POOL),
        lambda: tasks.started_by(["arn"]),
        lambda: tasks.running_since(["arn"]),
        lambda: tasks.define(POOL, SETTINGS),
    ):
        with pytest.raises(Unavailable, match="ecs"):
            call()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AccessDeniedException", "User: role is not authorized to perform: ecs:RunTask on resource: definition"),
        ("InvalidParameterException", "Network Configuration must be provided when networkMode 'awsvpc' is specified."),
        ("ClusterNotFoundException", "Cluster not found."),
        ("ClientException", "TaskDefinition is inactive"),
    ],
)
def test_what_will_never_start_is_refused_in_the_words_of_ecs(code: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        ecs(refusing_client("ecs", code, message)).run(a_launch(), a_pool())
    assert message in str(refused.value)


def test_a_conflict_names_the_tasks_to_adopt() -> None:
    client = refusing_client("ecs", "ConflictException", "token in use", resourceIds=["arn:task/1", "arn:task/2"])
    assert ecs(client).run(a_launch(), a_pool()).tasks == ("arn:task/1", "arn:task/2")


def test_denied_permission_to_stop_a_task_is_not_taken_for_a_stopped_task() -> None:
    client = refusing_client("ecs", "AccessDeniedException", "not authorized to perform: ecs:StopTask", 400)
    with pytest.raises(Unavailable, match="ecs:StopTask"):
        ecs(client).stop("arn", "reason")


def test_tasks_that_ecs_could_not_place_are_named_one_by_one() -> None:
    client = dead_client("ecs")
    failures = [{"arn": "arn:x", "reason": "RESOURCE:CPU", "detail": "no room"}, {"reason": "AGENT"}]

    def answer(**_: Any) -> tuple[Any, dict[str, Any]]:
        return type("Answer", (), {"status_code": 200})(), {"tasks": [{"taskArn": "arn:t"}], "failures": failures}

    client.meta.events.register("before-call.ecs.RunTask", answer)
    started = ecs(client).run(replace(a_launch(), count=3), a_pool())
    assert started.tasks == ("arn:t",)
    assert started.failures == ("RESOURCE:CPU no room arn:x", "AGENT")


def test_a_pools_definition_is_the_model_with_its_own_image_size_and_secrets() -> None:
    model: Any = {
        "family": "quaymaster-worker",
        "revision": 4,
        "status": "ACTIVE",
        "taskDefinitionArn": "arn:model",
        "registeredBy": "somebody",
        "compatibilities": ["FARGATE"],
        "requiresAttributes": [{"name": "x"}],
        "executionRoleArn": "arn:execution",
        "taskRoleArn": "arn:task",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "2048",
        "memory": "4096",
        "runtimePlatform": {"cpuArchitecture": "X86_64"},
        "containerDefinitions": [
            {"name": "sidecar", "image": "s"},
            {
                "name": "worker",
                "image": "model",
                "secrets": [{"name": "QUAYMASTER_TOKEN", "valueFrom": "old"}, {"name": "OTHER", "valueFrom": "kept"}],
            },
        ],
    }
    made: Any = of_pool(model, "quaymaster-pool-P", "worker", replace(SETTINGS, image="mine", cpu=512, memory=1024))
    own: Any = of_pool(model, "quaymaster-pool-P", "worker", replace(SETTINGS, task_role="arn:own"))
    assert own["taskRoleArn"] == "arn:own"
    sidecar, worker = made.pop("containerDefinitions")
    assert made == {
        "family": "quaymaster-pool-P",
        "executionRoleArn": "arn:execution",
        "taskRoleArn": "arn:task",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "512",
        "memory": "1024",
        "runtimePlatform": {"cpuArchitecture": "X86_64"},
    }
    assert sidecar == {"name": "sidecar", "image": "s"}
    assert worker["image"] == "mine"
    assert {secret["name"]: secret["valueFrom"] for secret in worker["secrets"]} == {
        "OTHER": "kept",
        "QUAYMASTER_TOKEN": SETTINGS.token_parameter,
        "QUAYMASTER_POOL_PRIVATE_KEY": SETTINGS.key_parameter,
    }
    assert model["containerDefinitions"][1]["image"] == "model"
    arm: Any = of_pool(model, "quaymaster-pool-P", "worker", replace(SETTINGS, architecture=Architecture.ARM64))
    assert arm["runtimePlatform"] == {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}
    own_model: Any = {**model, "family": "quaymaster-pool-P"}
    other: Any = with_image(own_model, "worker", "other:2")
    assert (other["family"], other["cpu"], other["taskRoleArn"]) == ("quaymaster-pool-P", "2048", "arn:task")
    assert [one["image"] for one in other["containerDefinitions"]] == ["s", "other:2"]
    assert other["containerDefinitions"][1]["secrets"] == model["containerDefinitions"][1]["secrets"]
    assert "revision" not in other


def test_a_model_without_a_worker_container_is_refused() -> None:
    model: Any = {"family": "odd", "containerDefinitions": [{"name": "other"}]}
    with pytest.raises(Refused, match="worker"):
        of_pool(model, "quaymaster-pool-P", "worker", SETTINGS)


def test_memory_fails_on_request_and_starts_what_fits() -> None:
    tasks = MemoryTasks(capacity=2)
    definition = tasks.define(POOL, SETTINGS)
    launch = replace(a_launch(), count=3, task_definition=definition)
    tasks.error = Busy("once")
    with pytest.raises(Busy):
        tasks.run(launch, a_pool())
    assert tasks.running == []
    tasks.error, tasks.answer_lost = Unavailable("ecs", "the answer was lost"), True
    with pytest.raises(Unavailable):
        tasks.run(launch, a_pool())
    started = tasks.run(launch, a_pool())
    assert len(started.tasks) == 2
    assert started.failures == ("RESOURCE:CPU",)
    assert len(tasks.running) == 2
    tasks.end(started.tasks[0], "Essential container in task exited")
    assert tasks.of_launch(launch) == [started.tasks[1]]
    assert tasks.tasks[started.tasks[0]].stopped == "Essential container in task exited"
