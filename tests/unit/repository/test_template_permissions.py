"""What each role may do, and that it is no more than that."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest

from tests.shared.cloudformation import Template, Tree, listed, load

FUNCTIONS = ("DispatchRuns", "ReceiveWorkerEvents", "ReceiveTaskEvents", "ReapOverdue", "ServeApi")
# AWS knows no resource for these: nothing narrower than "*" would ever allow them.
WITHOUT_RESOURCE = {
    "ecr:GetAuthorizationToken": "the token is the registry's, not a repository's",
    "ec2:DescribeSecurityGroups": "no resource type in EC2's authorization table",
    "ec2:DescribeSubnets": "no resource type in EC2's authorization table",
    "ecs:DeregisterTaskDefinition": "no resource type in ECS's authorization table",
    "ecs:DescribeTaskDefinition": "no resource type in ECS's authorization table",
    "ecs:ListTaskDefinitions": "no resource type in ECS's authorization table",
    "ecs:ListTasks": "its resource is a container instance, of which Fargate has none; limited by ecs:cluster instead",
    "ecs:RegisterTaskDefinition": "no resource type in ECS's authorization table",
    "iot:CreateCertificateFromCsr": "the certificate has no name before it exists",
    "iot:DescribeEndpoint": "the account's endpoint",
}
OURS = re.compile(
    r":(topic|topicfilter)/north/|:(client|policy|task-definition)/north-|:parameter/quaymaster/north/|:task/Cluster/|:role/north-run-"
)
STACK = "arn:aws:cloudformation:eu-west-1:111122223333:stack/quaymaster/1"
NAMED = "arn:aws:cloudformation:eu-west-1:111122223333:stack/quaymaster/*"
"""What IAM checks a request by name against."""
# A certificate's id is its hash: no pattern tells ours from others. What is attached is limited by its name.
OF_ANY_NAME = {"iot:AttachPolicy": "arn:aws:iot:eu-west-1:111122223333:cert/*"}


@pytest.fixture(scope="module")
def template() -> Template:
    return load()


def role_statements(template: Template, role: str) -> list[Tree]:
    """Everything a role is allowed: by its own policies and by the managed ones attached to it."""
    properties = template.resources[role]["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
    for policy in properties.get("ManagedPolicyArns", []):
        documents.append(template.resources[policy]["Properties"]["PolicyDocument"])
    return [statement for document in documents for statement in document["Statement"]]


def grants(template: Template) -> Iterator[tuple[str, str, str, Tree]]:
    """Who may do what to which resource, under which condition: one by one, of every role and policy."""
    for name, found in template.resources.items():
        if found["Type"] == "AWS::IAM::Role":
            statements = role_statements(template, name)
        elif found["Type"] == "AWS::IAM::ManagedPolicy":
            statements = found["Properties"]["PolicyDocument"]["Statement"]
        else:
            continue
        for statement in statements:
            assert statement["Effect"] == "Allow"
            for action in listed(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    yield name, action, resource, statement.get("Condition", {})


def may(template: Template, function: str, action: str, resource: str) -> bool:
    """Whether a function's role allows the action on the resource, conditions aside."""
    return any(
        fnmatchcase(action, allowed) and fnmatchcase(resource, pattern)
        for role, allowed, pattern, _ in grants(template)
        if role == f"{function}Role"
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_a_role_of_its_own(template: Template, name: str) -> None:
    assert template.functions[name]["Role"] == f"{name}Role.Arn"
    trust = template.resources[f"{name}Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert [statement["Principal"] for statement in trust] == [{"Service": "lambda.amazonaws.com"}]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_writes_only_its_own_log(template: Template, name: str) -> None:
    found = {(a, r) for role, a, r, _ in grants(template) if role == f"{name}Role" and a.startswith("logs:")}
    assert found == {("logs:CreateLogStream", f"{name}Logs.Arn"), ("logs:PutLogEvents", f"{name}Logs.Arn")}


def test_no_action_is_a_pattern(template: Template) -> None:
    assert not [(name, action) for name, action, _, _ in grants(template) if "*" in action]


def test_every_resource_is_ours_unless_aws_knows_none() -> None:
    template = load(Namespace="north")
    anything = {action for _, action, resource, _ in grants(template) if resource == "*"}
    assert anything == set(WITHOUT_RESOURCE)
    foreign = {
        (action, resource)
        for _, action, resource, _ in grants(template)
        if resource not in ("*", STACK, NAMED)
        and resource.partition(".")[0] not in template.resources
        and not OURS.search(resource)
    }
    assert foreign == set(OF_ANY_NAME.items())


def test_what_acts_on_tasks_is_limited_to_our_cluster(template: Template) -> None:
    acting = ("ecs:RunTask", "ecs:StopTask", "ecs:DescribeTasks", "ecs:ListTasks")
    found = [condition for _, action, _, condition in grants(template) if action in acting]
    assert found
    assert all(condition == {"ArnEquals": {"ecs:cluster": "Cluster.Arn"}} for condition in found)


def test_tasks_are_started_from_this_deployments_pools_only(template: Template) -> None:
    resources = {resource for _, action, resource, _ in grants(template) if action == "ecs:RunTask"}
    assert resources == {"arn:aws:ecs:eu-west-1:111122223333:task-definition/quaymaster-pool-*"}


def test_roles_are_passed_to_ecs_tasks_only(template: Template) -> None:
    passing = [(resource, condition) for _, action, resource, condition in grants(template) if action == "iam:PassRole"]
    assert passing
    assert {resource for resource, _ in passing} == {
        "TaskExecutionRole.Arn",
        "arn:aws:iam::111122223333:role/quaymaster-run-*",
    }
    assert all(
        condition == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}} for _, condition in passing
    )


def test_the_execution_role_reads_the_pools_secrets_and_starts_containers(template: Template) -> None:
    allowed = {(action, resource) for role, action, resource, _ in grants(template) if role == "TaskExecutionRole"}
    assert allowed == {
        ("ssm:GetParameters", "arn:aws:ssm:eu-west-1:111122223333:parameter/quaymaster/quaymaster/pools/*"),
        ("ecr:BatchCheckLayerAvailability", "WorkerRepository.Arn"),
        ("ecr:BatchGetImage", "WorkerRepository.Arn"),
        ("ecr:GetDownloadUrlForLayer", "WorkerRepository.Arn"),
        ("ecr:GetAuthorizationToken", "*"),
        ("logs:CreateLogStream", "WorkerLogs.Arn"),
        ("logs:PutLogEvents", "WorkerLogs.Arn"),
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_function_reads_a_pools_secrets(template: Template, function: str) -> None:
    secret = "arn:aws:ssm:eu-west-1:111122223333:parameter/quaymaster/quaymaster/pools/P/private-key"
    assert not may(template, function, "ssm:GetParameter", secret)
    assert not may(template, function, "ssm:GetParameters", secret)


# A presigned request allows what its signer may do: whoever assigns must hold every permission of a grant.
@pytest.mark.parametrize("function", ["DispatchRuns", "ReceiveWorkerEvents", "ReceiveTaskEvents", "ReapOverdue"])
@pytest.mark.parametrize(
    ("action", "key"),
    [
        ("s3:PutObject", "chunks/P/R/000001/perform-00000001.ndjson.gz"),
        ("s3:PutObject", "logs/P/R/000001/log.json"),
        ("s3:PutObject", "outputs/P/R/000001/outputs.json"),
        ("s3:GetObject", "inputs/P/Q/workspace.tar.gz"),
        ("s3:PutObject", "workspaces/P/R/000001/workspace.tar.gz"),
        ("s3:GetObject", "workspaces/P/R/000001/workspace.tar.gz"),
    ],
)
def test_whoever_assigns_may_do_what_it_grants(template: Template, function: str, action: str, key: str) -> None:
    assert may(template, function, action, f"Bucket.Arn/{key}")


GRANTED = {
    ("GetObject", "inputs"),
    ("GetObject", "workspaces"),
    ("PutObject", "chunks"),
    ("PutObject", "logs"),
    ("PutObject", "outputs"),
    ("PutObject", "workspaces"),
}
JUDGED = {("GetObject", "logs"), ("ListBucket", "")}
ASSEMBLED = {("GetObject", "chunks"), ("AbortMultipartUpload", "logs")}
IN_BUCKET = {
    "DispatchRuns": GRANTED | JUDGED | {("PutObject", "inputs/*.spec.json")},
    "ReceiveWorkerEvents": GRANTED | JUDGED,
    "ReceiveTaskEvents": GRANTED | JUDGED,
    "ReapOverdue": GRANTED | JUDGED | ASSEMBLED,
    "ServeApi": JUDGED | {("GetObject", "chunks"), ("GetObject", "outputs"), ("PutObject", "inputs")},
}
"""All that each may do with the bucket's objects, by the first part of their keys."""


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_reaches_the_objects_that_it_needs_and_no_others(template: Template, function: str) -> None:
    found = {
        (action.removeprefix("s3:"), resource.removeprefix("Bucket.Arn").strip("/*"))
        for role, action, resource, _ in grants(template)
        if role == f"{function}Role" and action.startswith("s3:")
    }
    assert found == IN_BUCKET[function]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("dynamodb:DeleteTable", "Table.Arn"),
        ("dynamodb:Scan", "Table.Arn"),
        ("s3:DeleteObject", "Bucket.Arn/logs/P/R/000001/log.json"),
        ("sqs:PurgeQueue", "RequestQueue.Arn"),
        ("iot:Publish", "arn:aws:iot:eu-west-1:111122223333:topic/quaymaster/from/P/W/registered"),
        ("iot:Publish", "arn:aws:iot:eu-west-1:111122223333:topic/other/to/P/W"),
    ],
)
def test_no_function_may_do_what_none_needs(template: Template, function: str, action: str, resource: str) -> None:
    assert not may(template, function, action, resource)


def test_only_the_dispatcher_takes_requests_off_the_queue(template: Template) -> None:
    for queue in ("RequestQueue.Arn", "InternalQueue.Arn"):
        taking = {function for function in FUNCTIONS if may(template, function, "sqs:ReceiveMessage", queue)}
        assert taking == {"DispatchRuns"}


def test_what_only_the_rule_and_the_functions_may_say_nobody_else_can(template: Template) -> None:
    found = {(name, resource) for name, action, resource, _ in grants(template) if action == "sqs:SendMessage"}
    writers = {name for name, resource in found if resource == "InternalQueue.Arn"}
    assert writers == {"RulesRole", "SendMessages", *(f"{name}Role" for name in FUNCTIONS)}
    assert {name for name, resource in found if resource == "RequestQueue.Arn"} == {"RequesterPolicy"}


def test_rules_may_fill_the_two_queues_and_nothing_else(template: Template) -> None:
    allowed = {(action, resource) for role, action, resource, _ in grants(template) if role == "RulesRole"}
    assert allowed == {("sqs:SendMessage", "InternalQueue.Arn"), ("sqs:SendMessage", "DeadLetterQueue.Arn")}


def test_requesters_send_requests_and_hear_answers_under_their_own_client_id(template: Template) -> None:
    iot = "arn:aws:iot:eu-west-1:111122223333"
    assert {(action, resource) for role, action, resource, _ in grants(template) if role == "RequesterPolicy"} == {
        ("sqs:SendMessage", "RequestQueue.Arn"),
        ("sqs:GetQueueUrl", "RequestQueue.Arn"),
        ("iot:Connect", f"{iot}:client/quaymaster-requester-${{aws:userid}}"),
        ("iot:Publish", f"{iot}:topic/quaymaster/requests/${{aws:userid}}"),
        ("iot:Subscribe", f"{iot}:topicfilter/quaymaster/replies/${{aws:userid}}"),
        ("iot:Subscribe", f"{iot}:topicfilter/quaymaster/replies/${{aws:userid}}/*"),
        ("iot:Receive", f"{iot}:topic/quaymaster/replies/${{aws:userid}}"),
        ("iot:Receive", f"{iot}:topic/quaymaster/replies/${{aws:userid}}/*"),
    }


def test_users_of_the_api_reach_it_and_nothing_behind_it(template: Template) -> None:
    assert {(action, resource) for role, action, resource, _ in grants(template) if role == "ApiPolicy"} == {
        ("lambda:InvokeFunctionUrl", "ServeApi.Arn"),
        ("lambda:InvokeFunction", "ServeApi.Arn"),
        ("cloudformation:DescribeStacks", NAMED),
    }


def test_the_function_behind_the_url_is_open_through_the_url_only(template: Template) -> None:
    found = {action: condition for role, action, _, condition in grants(template) if role == "ApiPolicy"}
    assert found["lambda:InvokeFunction"] == {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}


def test_only_the_api_invokes_functions_and_only_those_that_hear_events(template: Template) -> None:
    may_invoke = {
        (role, resource)
        for role, action, resource, _ in grants(template)
        if action == "lambda:InvokeFunction" and role.removesuffix("Role") in FUNCTIONS
    }
    assert may_invoke == {("ServeApiRole", "ReceiveWorkerEvents.Arn"), ("ServeApiRole", "ReceiveTaskEvents.Arn")}
    takes = {function for function in FUNCTIONS if may(template, function, "sqs:DeleteMessage", "DeadLetterQueue.Arn")}
    assert takes == {"ServeApi"}
