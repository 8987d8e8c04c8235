"""What the template promises about the functions and the Fargate workers."""

import re

import pytest
from quaymaster import __version__
from quaymaster.domain.ids import NAMESPACE
from quaymaster.settings import Settings

from tests.shared.cloudformation import REPOSITORY, Template, load, source

FUNCTIONS = ("DispatchRuns", "ReceiveWorkerEvents", "ReceiveTaskEvents", "ReapOverdue", "ServeApi")


@pytest.fixture(scope="module")
def template() -> Template:
    return load()


def test_there_are_five(template: Template) -> None:
    assert set(template.functions) == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_named_for_its_file(template: Template, name: str) -> None:
    module = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    function = template.functions[name]
    assert function["Handler"] == f"{module}.handler"
    assert function["FunctionName"] == f"quaymaster-{module.replace('_', '-')}"
    assert (REPOSITORY / "functions" / f"{module}.py").is_file()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_writes_to_a_log_group_of_its_own_that_forgets(template: Template, name: str) -> None:
    group = template.resources[f"{name}Logs"]["Properties"]
    assert template.functions[name]["LoggingConfig"] == {"LogGroup": f"{name}Logs"}
    assert group == {"LogGroupName": f"/aws/lambda/{template.functions[name]['FunctionName']}", "RetentionInDays": 30}


@pytest.mark.parametrize("name", ["ReceiveWorkerEvents", "ReceiveTaskEvents", "ReapOverdue"])
def test_what_an_asynchronous_function_cannot_handle_becomes_a_dead_letter(template: Template, name: str) -> None:
    failing = template.functions[name]["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]
    assert failing == {"Type": "SQS", "Destination": "DeadLetterQueue.Arn"}


def test_functions_share_one_runtime_and_the_layer(template: Template) -> None:
    assert template.function_defaults["Runtime"] == "python3.13"
    layer = template.resources["QuaymasterLayer"]
    assert layer["Metadata"]["BuildMethod"] == template.function_defaults["Runtime"]
    assert layer["Properties"]["CompatibleArchitectures"] == template.function_defaults["Architectures"]
    for function in template.functions.values():
        assert function["Layers"] == ["QuaymasterLayer"]


def test_every_setting_of_the_functions_is_set(template: Template) -> None:
    variables = template.function_defaults["Environment"]["Variables"]
    wanted = {field.alias for field in Settings.model_fields.values()}
    ours = {name for name in wanted if name and name.startswith("QUAYMASTER_")}
    assert ours == {name for name in variables if name.startswith("QUAYMASTER_")}


def test_the_api_takes_signed_requests_only(template: Template) -> None:
    assert template.functions["ServeApi"]["FunctionUrlConfig"] == {"AuthType": "AWS_IAM"}


def test_the_worker_is_a_fargate_task_without_aws_credentials(template: Template) -> None:
    model = template.resources["WorkerTaskDefinition"]["Properties"]
    assert (model["RequiresCompatibilities"], model["NetworkMode"]) == (["FARGATE"], "awsvpc")
    assert (model["Cpu"], model["Memory"]) == (2048, 4096)
    assert "TaskRoleArn" not in model


RUN_ROLES = "arn:aws:iam::111122223333:role/quaymaster-run-*"


def test_a_role_of_the_workers_own_may_be_given_and_passed() -> None:
    arn = "arn:aws:iam::111122223333:role/deployer"
    template = load(WorkerTaskRoleArn=arn)
    assert template.resources["WorkerTaskDefinition"]["Properties"]["TaskRoleArn"] == arn
    (passing,) = template.resources["PassWorkerRoles"]["Properties"]["PolicyDocument"]["Statement"]
    assert passing["Resource"] == ["TaskExecutionRole.Arn", RUN_ROLES, arn]


def test_the_default_image_is_this_versions(template: Template) -> None:
    (container,) = template.resources["WorkerTaskDefinition"]["Properties"]["ContainerDefinitions"]
    assert container["Image"] == f"WorkerRepository.RepositoryUri:{__version__}"
    (container,) = load(WorkerImage="busybox").resources["WorkerTaskDefinition"]["Properties"]["ContainerDefinitions"]
    assert container["Image"] == "busybox"


def test_a_stopped_worker_has_as_long_as_fargate_allows(template: Template) -> None:
    (container,) = template.resources["WorkerTaskDefinition"]["Properties"]["ContainerDefinitions"]
    assert container["Name"] == "worker"
    assert container["StopTimeout"] == 120
    assert container["LogConfiguration"]["Options"]["awslogs-group"] == "WorkerLogs"


def test_only_the_function_that_rings_its_own_queue_may_seem_to_loop(template: Template) -> None:
    allowed = {name for name, function in template.functions.items() if "RecursiveLoop" in function}
    assert allowed == {"DispatchRuns"}
    assert template.functions["DispatchRuns"]["RecursiveLoop"] == "Allow"


def test_a_namespace_can_name_a_table() -> None:
    # DynamoDB: 3 to 255 characters.
    assert not NAMESPACE.fullmatch("ab")
    assert NAMESPACE.fullmatch("abc")
    assert source()["Parameters"]["Namespace"]["AllowedPattern"] == f"^{NAMESPACE.pattern}$"
