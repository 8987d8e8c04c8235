"""What the template promises about state, queues, rules and idle cost."""

import re

import pytest

from tests.shared.cloudformation import Template, Tree, load, source, strings

KINDS = ("Bucket", "Cluster", "Function", "Layer", "LogGroup", "Queue", "Repository", "Rule", "Table")
NAMES = {"Family", *(f"{kind}Name" for kind in KINDS)}


@pytest.fixture(scope="module")
def template() -> Template:
    return load()


def names_of(template: Template) -> set[tuple[str, str]]:
    """Every physical name that the template gives, with the property that gives it."""
    named = [found["Properties"] for found in template.resources.values() if found["Type"] != "AWS::Lambda::Permission"]
    events = [event for function in template.functions.values() for event in function.get("Events", {}).values()]
    schedules = {("ScheduleName", event["Properties"]["Name"]) for event in events if event["Type"] == "ScheduleV2"}
    named += [event["Properties"] for event in events]
    return schedules | {(key, part) for properties in named for key, part in properties.items() if key in NAMES}


def test_the_bucket_refuses_plain_http_on_aws() -> None:
    policy = load(EcsEndpoint="").of_type("AWS::S3::BucketPolicy")["BucketPolicy"]
    assert policy["Bucket"] == "Bucket"
    assert policy["PolicyDocument"]["Statement"] == [
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": ["Bucket.Arn", "Bucket.Arn/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ]


def test_the_ecs_endpoint_changes_nothing_but_that_and_where_ecs_is_asked() -> None:
    on_aws, local = load(), load(EcsEndpoint="http://127.0.0.1:1")
    differing = {name for name in on_aws.resources if on_aws.resources[name] != local.resources.get(name)}
    assert differing == {"BucketPolicy"}
    variables, local_variables = (one.function_defaults["Environment"]["Variables"] for one in (on_aws, local))
    assert {name for name in variables if variables[name] != local_variables[name]} == {"QUAYMASTER_ECS_ENDPOINT"}


def test_the_cluster_needs_no_role_that_a_new_account_lacks(template: Template) -> None:
    """Naming providers in CreateCluster fails where ECS's service-linked role does not exist yet."""
    (cluster,) = template.of_type("AWS::ECS::Cluster").values()
    assert not {"CapacityProviders", "DefaultCapacityProviderStrategy"} & set(cluster)
    (association,) = template.of_type("AWS::ECS::ClusterCapacityProviderAssociations").values()
    assert association == {
        "Cluster": "Cluster",
        "CapacityProviders": ["FARGATE", "FARGATE_SPOT"],
        "DefaultCapacityProviderStrategy": [],
    }


def test_the_bucket_is_private_and_encrypted(template: Template) -> None:
    bucket = template.resources["Bucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}


@pytest.mark.parametrize(
    ("prefix", "days"), [("chunks/", 2), ("logs/", 90), ("inputs/", 30), ("workspaces/", 30), ("outputs/", 7)]
)
def test_objects_live_as_long_as_their_class_says(prefix: str, days: int) -> None:
    bucket = load(LogRetentionDays="90").resources["Bucket"]["Properties"]
    (rule,) = [rule for rule in bucket["LifecycleConfiguration"]["Rules"] if rule.get("Prefix") == prefix]
    assert (rule["Status"], int(rule["ExpirationInDays"])) == ("Enabled", days)


def test_logs_are_kept_sixty_days_unless_told_otherwise(template: Template) -> None:
    assert template.parameters["LogRetentionDays"]["Default"] == 60


def test_unfinished_uploads_are_removed(template: Template) -> None:
    rules = template.resources["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    aborting = [rule for rule in rules if "AbortIncompleteMultipartUpload" in rule]
    assert [(rule["Status"], "Prefix" in rule) for rule in aborting] == [("Enabled", False)]


def test_the_table_is_on_demand_recoverable_encrypted_and_forgets(template: Template) -> None:
    table = template.resources["Table"]["Properties"]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert template.resources["Table"]["DeletionPolicy"] == "RetainExceptOnCreate"


def test_the_indexes_hold_keys_only(template: Template) -> None:
    table = template.resources["Table"]["Properties"]
    indexes = {
        index["IndexName"]: ([part["AttributeName"] for part in index["KeySchema"]], index["Projection"])
        for index in table["GlobalSecondaryIndexes"]
    }
    assert indexes == {
        "due": (["due_pk", "due_at"], {"ProjectionType": "KEYS_ONLY"}),
        "listing": (["listing_pk", "listing_at"], {"ProjectionType": "KEYS_ONLY"}),
    }


@pytest.mark.parametrize("name", ["RequestQueue", "InternalQueue"])
def test_a_batch_comes_again_only_when_its_function_is_surely_over(template: Template, name: str) -> None:
    queue = template.resources[name]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * template.functions["DispatchRuns"]["Timeout"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == "DeadLetterQueue.Arn"


@pytest.mark.parametrize("name", ["Requests", "Internal"])
def test_one_bad_request_does_not_hold_up_its_batch(template: Template, name: str) -> None:
    requests = template.functions["DispatchRuns"]["Events"][name]["Properties"]
    assert requests["Queue"] == f"{name.removesuffix('s')}Queue.Arn"
    assert requests["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert requests["ScalingConfig"]["MaximumConcurrency"] >= 2


def test_a_dead_letter_is_kept_two_weeks_and_outlives_its_request(template: Template) -> None:
    queues = template.of_type("AWS::SQS::Queue")
    dead = queues.pop("DeadLetterQueue")
    assert dead["MessageRetentionPeriod"] == 14 * 86400
    assert set(queues) == {"RequestQueue", "InternalQueue"}
    for live in queues.values():
        assert dead["MessageRetentionPeriod"] > live["MessageRetentionPeriod"]
        assert dead["SqsManagedSseEnabled"] is live["SqsManagedSseEnabled"] is True


def payloads(template: Template) -> dict[str, Tree]:
    """What each IoT rule does, by its name."""
    rules = template.of_type("AWS::IoT::TopicRule").values()
    return {rule["RuleName"]: rule["TopicRulePayload"] for rule in rules}


def test_what_a_rule_cannot_deliver_becomes_a_dead_letter(template: Template) -> None:
    assert set(payloads(template)) == {"quaymaster_requests", "quaymaster_worker_events", "quaymaster_presence"}
    for payload in payloads(template).values():
        assert payload["ErrorAction"]["Sqs"]["QueueUrl"] == "DeadLetterQueue"
        assert payload["ErrorAction"]["Sqs"]["RoleArn"] == "RulesRole.Arn"
        assert payload["AwsIotSqlVersion"] == "2016-03-23"


def test_ids_come_from_the_topic_and_the_body_stays_whole(template: Template) -> None:
    assert payloads(template)["quaymaster_worker_events"]["Sql"] == (
        "SELECT encode(*, 'base64') AS body, topic(3) AS pool_id, topic(4) AS worker_id, topic(5) AS event, "
        "timestamp() AS received_at FROM 'quaymaster/from/+/+/+'"
    )
    assert payloads(template)["quaymaster_requests"]["Sql"] == (
        "SELECT encode(*, 'base64') AS body, topic(3) AS client_id, principal() AS principal, "
        "timestamp() AS received_at FROM 'quaymaster/requests/+'"
    )


@pytest.mark.parametrize(
    ("client_id", "ours"),
    [
        ("quaymaster.01J8ZQ5T5N6Y8V3R2W1X0P9M7K.01J8ZQ5T5N", True),
        ("quaymasterman.01J8ZQ5T5N6Y8V3R2W1X0P9M7K.01J8ZQ5T5N", False),
        ("quaymaster-requester-1", False),
        ("other.quaymaster.1", False),
    ],
)
def test_presence_is_heard_of_our_agents_only(template: Template, client_id: str, ours: bool) -> None:
    sql = payloads(template)["quaymaster_presence"]["Sql"]
    assert "FROM '$aws/events/presence/+/#'" in sql
    (pattern,) = re.findall(r"WHERE regexp_matches\(clientId, '(.+)'\)", sql)
    assert bool(re.search(pattern, client_id)) is ours


def test_requests_over_mqtt_go_where_only_the_rule_and_the_functions_write(template: Template) -> None:
    (action,) = payloads(template)["quaymaster_requests"]["Actions"]
    assert action["Sqs"]["QueueUrl"] == "InternalQueue"


def test_two_deployments_share_no_name() -> None:
    here, there = names_of(load(Namespace="north")), names_of(load(Namespace="south"))
    assert len(here) == len(there) > 20
    assert not here & there


@pytest.mark.parametrize(
    ("namespace", "accepted"),
    [("quaymaster", True), ("ab1", True), ("a1", False), ("a-b", False), ("A", False), ("1a", False), ("a.b", False)],
)
def test_a_namespace_fits_every_name_that_carries_it(template: Template, namespace: str, accepted: bool) -> None:
    assert bool(re.fullmatch(template.parameters["Namespace"]["AllowedPattern"], namespace)) is accepted


def test_nothing_costs_while_nothing_runs(template: Template) -> None:
    kinds = {found["Type"] for found in template.resources.values()}
    costly = ("AWS::EC2::", "AWS::KMS::", "AWS::SecretsManager::", "AWS::ECS::Service", "AWS::ApiGateway")
    assert not [kind for kind in kinds if kind.startswith(costly)]
    for function in template.functions.values():
        assert not {"VpcConfig", "ProvisionedConcurrencyConfig", "SnapStart", "Tracing"} & set(function)


def test_the_reaper_runs_every_minute(template: Template) -> None:
    schedule = template.functions["ReapOverdue"]["Events"]["EveryMinute"]
    assert schedule["Type"] == "ScheduleV2"
    assert schedule["Properties"]["ScheduleExpression"] == "rate(1 minute)"
    assert schedule["Properties"]["RoleArn"] == "ReapScheduleRole.Arn"


def test_only_our_clusters_tasks_are_heard(template: Template) -> None:
    event = template.functions["ReceiveTaskEvents"]["Events"]["TaskStates"]["Properties"]
    assert event["Pattern"] == {
        "source": ["aws.ecs"],
        "detail-type": ["ECS Task State Change"],
        "detail": {"clusterArn": ["Cluster.Arn"]},
    }
    (allowed,) = template.resources["DeadLetterQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert allowed["Condition"]["ArnEquals"]["aws:SourceArn"].endswith(f":rule/{event['RuleName']}")
    assert event["DeadLetterConfig"] == {"Arn": "DeadLetterQueue.Arn"}


def test_the_template_names_no_account_and_no_region() -> None:
    assert not [text for text in strings(source()) if re.search(r"\b\d{12}\b|\b(us|eu|ap)-[a-z]+-\d\b", text)]
