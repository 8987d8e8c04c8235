"""Each resource of the deployed stack, asked for through its own API: that it was created proves nothing.

What the local cloud's CloudFormation leaves out (lifecycle rules, point-in-time recovery, encryption of the table) is
asserted of the template instead.
"""

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from quaymaster_local.cloud import LocalCloud

FUNCTIONS = ("DispatchRuns", "ReceiveWorkerEvents", "ReceiveTaskEvents", "ReapOverdue", "ServeApi")
ASYNCHRONOUS = ("ReceiveWorkerEvents", "ReceiveTaskEvents", "ReapOverdue")


def attributes(cloud: LocalCloud, output: str) -> dict[str, str]:
    return cloud.client("sqs").get_queue_attributes(QueueUrl=cloud.outputs[output], AttributeNames=["All"])[
        "Attributes"
    ]


def configuration(cloud: LocalCloud, function: str) -> dict[str, Any]:
    return cloud.client("lambda").get_function_configuration(FunctionName=cloud.function_name(function))


def role_arn(cloud: LocalCloud, function: str) -> str:
    return configuration(cloud, function)["Role"]


def allowed(cloud: LocalCloud, principal: str, action: str, resource: str, **context: str) -> bool:
    """What IAM says of one action of a principal; `context` names keys with `__` for `:`."""
    entries = [
        {"ContextKeyName": name.replace("__", ":"), "ContextKeyValues": [value], "ContextKeyType": "string"}
        for name, value in context.items()
    ]
    answer = cloud.client("iam").simulate_principal_policy(
        PolicySourceArn=principal, ActionNames=[action], ResourceArns=[resource], ContextEntries=entries
    )
    return [result["EvalDecision"] for result in answer["EvaluationResults"]] == ["allowed"]


def test_the_table_has_its_keys_and_indexes(cloud: LocalCloud) -> None:
    table = cloud.client("dynamodb").describe_table(TableName=cloud.outputs["TableName"])["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert [part["AttributeName"] for part in table["KeySchema"]] == ["pk", "sk"]
    indexes = {
        index["IndexName"]: ([part["AttributeName"] for part in index["KeySchema"]], index["Projection"])
        for index in table["GlobalSecondaryIndexes"]
    }
    assert indexes == {
        "due": (["due_pk", "due_at"], {"ProjectionType": "KEYS_ONLY"}),
        "listing": (["listing_pk", "listing_at"], {"ProjectionType": "KEYS_ONLY"}),
    }


@pytest.mark.parametrize("output", ["RequestQueueUrl", "InternalQueueUrl"])
def test_the_queues_redrive_hide_and_keep_as_they_should(cloud: LocalCloud, output: str) -> None:
    live, dead = attributes(cloud, output), attributes(cloud, "DeadLetterQueueUrl")
    timeout = configuration(cloud, "DispatchRuns")["Timeout"]
    assert int(live["VisibilityTimeout"]) >= 6 * timeout
    assert json.loads(live["RedrivePolicy"]) == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 5}
    assert int(dead["MessageRetentionPeriod"]) == 14 * 86400
    assert live["SqsManagedSseEnabled"] == dead["SqsManagedSseEnabled"] == "true"


def test_the_queues_feed_the_dispatcher_in_batches_that_fail_in_parts(cloud: LocalCloud) -> None:
    mappings = cloud.client("lambda").list_event_source_mappings(FunctionName=cloud.function_name("DispatchRuns"))[
        "EventSourceMappings"
    ]
    queues = {attributes(cloud, output)["QueueArn"] for output in ("RequestQueueUrl", "InternalQueueUrl")}
    assert {mapping["EventSourceArn"] for mapping in mappings} == queues
    assert len(mappings) == len(queues)
    for mapping in mappings:
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["ScalingConfig"]["MaximumConcurrency"] >= 2
        assert (mapping["BatchSize"], mapping["State"]) == (10, "Enabled")


def test_the_bucket_is_private_and_encrypted_and_takes_http_in_the_local_cloud(cloud: LocalCloud) -> None:
    s3, bucket = cloud.client("s3"), cloud.outputs["BucketName"]
    blocked = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert len(blocked) == 4
    assert set(blocked.values()) == {True}
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert [rule["ApplyServerSideEncryptionByDefault"] for rule in rules] == [{"SSEAlgorithm": "AES256"}]
    assert s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"] == [
        {"ObjectOwnership": "BucketOwnerEnforced"}
    ]
    with pytest.raises(ClientError, match="NoSuchBucketPolicy"):
        s3.get_bucket_policy(Bucket=bucket)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_runs_on_the_layer_and_logs_to_its_own_group(cloud: LocalCloud, function: str) -> None:
    found = configuration(cloud, function)
    assert (found["Runtime"], found["Architectures"]) == ("python3.13", ["x86_64"])
    assert [layer["Arn"].split(":")[6] for layer in found["Layers"]] == [f"{cloud.namespace}-quaymaster"]
    group = f"/aws/lambda/{cloud.function_name(function)}"
    assert found["LoggingConfig"]["LogGroup"] == group
    groups = cloud.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert [(one["logGroupName"], one["retentionInDays"]) for one in groups] == [(group, 30)]


def test_no_two_functions_share_a_role(cloud: LocalCloud) -> None:
    assert len({role_arn(cloud, function) for function in FUNCTIONS}) == len(FUNCTIONS)


@pytest.mark.parametrize("function", ASYNCHRONOUS)
def test_what_an_asynchronous_function_fails_at_is_kept(cloud: LocalCloud, function: str) -> None:
    found = cloud.client("lambda").get_function_event_invoke_config(
        FunctionName=cloud.function_name(function), Qualifier="$LATEST"
    )
    dead_letters = attributes(cloud, "DeadLetterQueueUrl")["QueueArn"]
    assert found["DestinationConfig"]["OnFailure"] == {"Destination": dead_letters}


def test_an_event_that_cannot_be_handled_ends_as_a_dead_letter(cloud: LocalCloud) -> None:
    marker = f"impossible-{time.monotonic_ns()}"
    # No event is a list: the function breaks at it, as at anything that nobody foresaw.
    cloud.client("lambda").invoke(
        FunctionName=cloud.function_name("ReceiveTaskEvents"),
        InvocationType="Event",
        Payload=json.dumps([marker]).encode(),
    )
    record = dead_letter_with(cloud, marker)
    assert record["requestContext"]["functionArn"].startswith(configuration(cloud, "ReceiveTaskEvents")["FunctionArn"])
    assert record["requestPayload"] == [marker]


def dead_letter_with(cloud: LocalCloud, marker: str) -> dict[str, Any]:
    """The dead letter whose body has the marker, taken off the queue; fails after half a minute."""
    sqs, url = cloud.client("sqs"), cloud.outputs["DeadLetterQueueUrl"]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=1, WaitTimeSeconds=1)
        for message in answer.get("Messages", []):
            if marker in message["Body"]:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                return json.loads(message["Body"])
    raise AssertionError(f"no dead letter with {marker}")


@pytest.mark.parametrize(("rule", "target"), [("requests", "sqs"), ("worker_events", "lambda"), ("presence", "lambda")])
def test_a_rule_delivers_or_keeps(cloud: LocalCloud, rule: str, target: str) -> None:
    found = cloud.client("iot").get_topic_rule(ruleName=f"{cloud.namespace}_{rule}")["rule"]
    assert [list(action) for action in found["actions"]] == [[target]]
    assert found["errorAction"]["sqs"]["queueUrl"].endswith(f"/{cloud.namespace}-dead-letters")
    assert found["awsIotSqlVersion"] == "2016-03-23"
    assert not found["ruleDisabled"]


def test_only_the_rules_may_invoke_the_functions_behind_them(cloud: LocalCloud) -> None:
    policy = cloud.client("lambda").get_policy(FunctionName=cloud.function_name("ReceiveWorkerEvents"))["Policy"]
    sources = {statement["Condition"]["ArnLike"]["AWS:SourceArn"] for statement in json.loads(policy)["Statement"]}
    rules = {f":rule/{cloud.namespace}_worker_events", f":rule/{cloud.namespace}_presence"}
    assert {source[source.index(":rule/") :] for source in sources} == rules


def test_ecs_events_of_our_cluster_reach_their_function(cloud: LocalCloud) -> None:
    events, name = cloud.client("events"), f"{cloud.namespace}-task-states"
    pattern = json.loads(events.describe_rule(Name=name)["EventPattern"])
    assert pattern["detail-type"] == ["ECS Task State Change"]
    assert pattern["detail"]["clusterArn"] == [cloud.outputs["ClusterArn"]]
    (target,) = events.list_targets_by_rule(Rule=name)["Targets"]
    assert target["Arn"] == configuration(cloud, "ReceiveTaskEvents")["FunctionArn"]
    assert target["DeadLetterConfig"]["Arn"] == attributes(cloud, "DeadLetterQueueUrl")["QueueArn"]


def test_the_reaper_is_invoked_every_minute(cloud: LocalCloud) -> None:
    schedule = cloud.client("scheduler").get_schedule(Name=f"{cloud.namespace}-reap-overdue")
    assert (schedule["ScheduleExpression"], schedule["State"]) == ("rate(1 minute)", "ENABLED")
    assert schedule["Target"]["Arn"] == configuration(cloud, "ReapOverdue")["FunctionArn"]
    assert allowed(cloud, schedule["Target"]["RoleArn"], "lambda:InvokeFunction", schedule["Target"]["Arn"])


def test_the_model_of_the_workers_is_a_fargate_task(cloud: LocalCloud) -> None:
    model = cloud.ecs().describe_task_definition(taskDefinition=cloud.outputs["WorkerTaskDefinitionArn"])[
        "taskDefinition"
    ]
    assert (model["family"], model["networkMode"]) == (f"{cloud.namespace}-worker", "awsvpc")
    assert (model["cpu"], model["memory"]) == ("2048", "4096")
    assert model["executionRoleArn"] == cloud.outputs["TaskExecutionRoleArn"]
    assert not model.get("taskRoleArn")
    (container,) = model["containerDefinitions"]
    assert container["image"].startswith(cloud.outputs["WorkerRepositoryUri"])
    group = container["logConfiguration"]["options"]["awslogs-group"]
    groups = cloud.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert [one["retentionInDays"] for one in groups] == [30]


def test_worker_images_cannot_be_overwritten_and_are_scanned(cloud: LocalCloud) -> None:
    (repository,) = cloud.client("ecr").describe_repositories(repositoryNames=[f"{cloud.namespace}/worker"])[
        "repositories"
    ]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}


def test_the_api_takes_signed_requests_only(cloud: LocalCloud) -> None:
    found = cloud.client("lambda").get_function_url_config(FunctionName=cloud.function_name("ServeApi"))
    assert (found["AuthType"], found["FunctionUrl"]) == ("AWS_IAM", cloud.outputs["ApiUrl"])


@pytest.mark.parametrize(
    ("function", "action", "resource", "expected"),
    [
        ("DispatchRuns", "dynamodb:PutItem", "{table}", True),
        ("DispatchRuns", "dynamodb:Query", "{table}/index/due", True),
        ("DispatchRuns", "dynamodb:Scan", "{table}", False),
        ("DispatchRuns", "sqs:ReceiveMessage", "{queue}", True),
        ("ReapOverdue", "sqs:ReceiveMessage", "{queue}", False),
        ("ReapOverdue", "sqs:SendMessage", "{internal}", True),
        ("ReapOverdue", "sqs:SendMessage", "{queue}", False),
        ("ServeApi", "sqs:ReceiveMessage", "{dead}", True),
        ("DispatchRuns", "iot:Publish", "{iot}:topic/{ns}/to/P/W", True),
        ("DispatchRuns", "iot:Publish", "{iot}:topic/{ns}/from/P/W/prepared", False),
        ("ServeApi", "iot:CreatePolicy", "{iot}:policy/{ns}-pool-P", True),
        ("ServeApi", "iot:CreatePolicy", "{iot}:policy/other-pool-P", False),
        ("DispatchRuns", "iot:CreatePolicy", "{iot}:policy/{ns}-pool-P", False),
        ("ReceiveWorkerEvents", "s3:PutObject", "{bucket}/chunks/P/R/000001/perform-00000001.ndjson.gz", True),
        ("ReceiveWorkerEvents", "s3:PutObject", "{bucket}/inputs/P/Q/workspace.tar.gz", False),
        ("ServeApi", "s3:PutObject", "{bucket}/inputs/P/Q/workspace.tar.gz", True),
        ("ServeApi", "s3:PutObject", "{bucket}/logs/P/R/000001/log.json", False),
        ("ReapOverdue", "s3:DeleteObject", "{bucket}/logs/P/R/000001/log.json", False),
        ("ServeApi", "ssm:GetParameter", "{ssm}/agents", True),
        ("ServeApi", "ssm:GetParameter", "{ssm}/pools/P/private-key", False),
        ("ReapOverdue", "ssm:GetParameters", "{ssm}/pools/P/private-key", False),
    ],
)
def test_a_functions_role_allows_what_it_needs_and_no_more(
    cloud: LocalCloud, function: str, action: str, resource: str, expected: bool
) -> None:
    assert allowed(cloud, role_arn(cloud, function), action, filled_in(cloud, resource)) is expected


def filled_in(cloud: LocalCloud, resource: str) -> str:
    account = cloud.outputs["ClusterArn"].split(":")[4]
    region = cloud.deployment.region
    return resource.format(
        ns=cloud.namespace,
        table=f"arn:aws:dynamodb:{region}:{account}:table/{cloud.outputs['TableName']}",
        queue=attributes(cloud, "RequestQueueUrl")["QueueArn"],
        internal=attributes(cloud, "InternalQueueUrl")["QueueArn"],
        dead=attributes(cloud, "DeadLetterQueueUrl")["QueueArn"],
        bucket=f"arn:aws:s3:::{cloud.outputs['BucketName']}",
        iot=f"arn:aws:iot:{region}:{account}",
        ssm=f"arn:aws:ssm:{region}:{account}:parameter/quaymaster/{cloud.namespace}",
    )


@pytest.mark.parametrize("function", ["DispatchRuns", "ReceiveWorkerEvents", "ReceiveTaskEvents", "ReapOverdue"])
def test_tasks_are_run_in_our_cluster_and_of_our_pools_only(cloud: LocalCloud, function: str) -> None:
    role, cluster = role_arn(cloud, function), cloud.outputs["ClusterArn"]
    family = cloud.outputs["WorkerTaskDefinitionArn"].rpartition("-worker")[0] + "-pool-P:1"
    assert allowed(cloud, role, "ecs:RunTask", family, ecs__cluster=cluster)
    assert not allowed(cloud, role, "ecs:RunTask", family, ecs__cluster=cluster + "-other")
    assert not allowed(cloud, role, "ecs:RunTask", cloud.outputs["WorkerTaskDefinitionArn"], ecs__cluster=cluster)
    execution = cloud.outputs["TaskExecutionRoleArn"]
    assert allowed(cloud, role, "iam:PassRole", execution, iam__PassedToService="ecs-tasks.amazonaws.com")
    assert not allowed(cloud, role, "iam:PassRole", execution, iam__PassedToService="ec2.amazonaws.com")
    roles, namespace = execution.partition(":role/")[0] + ":role/", cloud.outputs["Namespace"]
    ours = {"iam__PassedToService": "ecs-tasks.amazonaws.com"}
    assert allowed(cloud, role, "iam:PassRole", f"{roles}{namespace}-run-deployer", **ours)
    assert not allowed(cloud, role, "iam:PassRole", f"{roles}admin", **ours)


def test_listing_logs_and_missing_logs_is_allowed_and_listing_inputs_is_not(cloud: LocalCloud) -> None:
    role, bucket = role_arn(cloud, "ReapOverdue"), filled_in(cloud, "{bucket}")
    assert allowed(cloud, role, "s3:ListBucket", bucket, s3__prefix="chunks/P/R/000001/")
    assert not allowed(cloud, role, "s3:ListBucket", bucket, s3__prefix="inputs/")
    # What S3 asks for when an object is missing: only then it answers 404 and not 403.
    assert allowed(cloud, role, "s3:ListBucket", bucket)


def test_the_execution_role_reads_pools_secrets_only(cloud: LocalCloud) -> None:
    role = cloud.outputs["TaskExecutionRoleArn"]
    assert allowed(cloud, role, "ssm:GetParameters", filled_in(cloud, "{ssm}/pools/P/private-key"))
    assert not allowed(cloud, role, "ssm:GetParameters", filled_in(cloud, "{ssm}/agents"))
    assert not allowed(cloud, role, "dynamodb:GetItem", filled_in(cloud, "{table}"))
