"""The ECS endpoint, with a real ministack beside it and a small program in the agent's place."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError
from quaymaster_local.aws import RootClients
from quaymaster_local.processes.lifeline import Lifeline
from quaymaster_local.processes.sessions import ProcessIdentity, stop_all
from quaymaster_local.services import ServicePlan, start_services
from quaymaster_local.settings import REGION, Settings

pytestmark = pytest.mark.local

CLUSTER = "fleet"
SECRET = "/pools/one/token"
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-local"]}}

# Stands for the agent: says what it was given, starts a child in a session of its own, ends by signal or by itself.
AGENT = """#!/bin/sh
env > "$QUAYMASTER_TEST_OUT"
[ -n "$QUAYMASTER_TEST_CHILD" ] && setsid sleep 600 &
[ "$QUAYMASTER_TEST_STUBBORN" ] && trap '' TERM
[ -n "$QUAYMASTER_TEST_EXIT" ] && exit "$QUAYMASTER_TEST_EXIT"
echo "arguments: $*" >&2
while :; do sleep 0.05; done
"""

# Stands for ReceiveTaskEvents: keeps each event in the queue that it is told.
RECEIVER = """
import json, os, boto3
def handler(event, context):
    boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps(event))
"""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A cluster with one task definition, an event queue, and the roles around them."""

    root: RootClients
    ecs_url: str
    folder: Path
    definition: str
    queue: str
    roles: Mapping[str, str]
    processes: tuple[ProcessIdentity, ...]

    def ecs(self, **credentials: str) -> Any:
        """A client of the endpoint; root's unless other credentials are given."""
        session = boto3.Session(**credentials) if credentials else self.root.session  # pyright: ignore[reportArgumentType]
        return cast(Any, session).client("ecs", endpoint_url=self.ecs_url, region_name=REGION)

    def run(self, out: Path | None = None, **options: Any) -> list[dict[str, Any]]:
        """RunTask with a program that writes its environment to `out`."""
        variables = {"QUAYMASTER_TEST_OUT": str(out or self.folder / "out"), **options.pop("variables", {})}
        environment = [{"name": name, "value": value} for name, value in variables.items()]
        asked: dict[str, Any] = {
            "cluster": CLUSTER,
            "taskDefinition": self.definition,
            "launchType": "FARGATE",
            "networkConfiguration": NETWORK,
            "overrides": {"containerOverrides": [{"name": "worker", "environment": environment}]},
        }
        return self.ecs().run_task(**{**asked, **options})["tasks"]

    def describe(self, arn: str) -> dict[str, Any]:
        """One task as DescribeTasks shows it."""
        return self.ecs().describe_tasks(cluster=CLUSTER, tasks=[arn])["tasks"][0]

    def wait(self, arn: str, wanted: str) -> dict[str, Any]:
        """The task, once it has reached this status."""

        def reached() -> dict[str, Any] | None:
            task = self.describe(arn)
            return task if task["lastStatus"] == wanted else None

        return until(reached)

    def stop(self, arn: str) -> dict[str, Any]:
        """Stop it and wait for its end."""
        self.ecs().stop_task(cluster=CLUSTER, task=arn, reason="enough")
        return self.wait(arn, "STOPPED")

    def events(self, arn: str, count: int) -> list[dict[str, Any]]:
        """The first events about a task, in the order of their versions."""
        found: list[dict[str, Any]] = []

        def received() -> bool:
            answer = self.root.client("sqs").receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10)
            bodies = [json.loads(message["Body"]) for message in answer.get("Messages", ())]
            found.extend(body for body in bodies if body["resources"] == [arn])
            return len(found) >= count

        until(received)
        return sorted(found, key=lambda event: event["detail"]["version"])

    def every_event(self, until_of: str, at_least: str) -> list[dict[str, Any]]:
        """All events that come until one tells that this task has this status."""
        found: list[dict[str, Any]] = []

        def received() -> bool:
            answer = self.root.client("sqs").receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10)
            found.extend(json.loads(message["Body"]) for message in answer.get("Messages", ()))
            for message in answer.get("Messages", ()):
                self.root.client("sqs").delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
            return any(e["resources"] == [until_of] and e["detail"]["lastStatus"] == at_least for e in found)

        until(received)
        return found


def until[T](look: Callable[[], T | None], seconds: float = 60) -> T:
    """The first true value that `look` returns."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return seen


def agent_pid(task: Mapping[str, Any]) -> int:
    """The pid of the program that stands for the agent."""
    return int(task["containers"][0]["runtimeId"].rsplit("-", 1)[1])


@contextmanager
def fleet(local_settings: Settings, logs: Path) -> Generator[Fleet]:
    """ministack and the ECS endpoint, without the stack."""
    folder = Path(tempfile.mkdtemp(prefix="quaymaster-ecs-test-"))
    agent = folder / "agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    settings = replace(local_settings, agent_program=agent)
    plan = ServicePlan(folder=folder, logs=logs, lifeline=Lifeline(), start_delay_seconds=0.1)
    processes: list[ProcessIdentity] = []
    try:
        started = start_services(settings, plan, processes.append)
        with closing(RootClients(started.ministack.endpoint_url)) as root:
            yield prepare(root, started.ecs_endpoint_url, folder, tuple(started.processes))
    finally:
        stop_all(processes[::-1])
        plan.lifeline.close()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def services(local_settings: Settings, logs: Path) -> Iterator[Fleet]:
    """One fleet for all tests that leave it running."""
    with fleet(local_settings, logs / "ecs") as running:
        yield running


def prepare(root: RootClients, ecs_url: str, folder: Path, processes: tuple[ProcessIdentity, ...]) -> Fleet:
    """What the template makes, as small as this suite needs it."""
    roles = {
        "execution": make_role(root, "execution", [allow("ssm:GetParameters", "*parameter/pools/*")]),
        "powerless": make_role(root, "powerless", []),
        "receiver": make_role(root, "receiver", [allow("sqs:SendMessage", "*")]),
    }
    root.client("ssm").put_parameter(Name=SECRET, Value="a token", Type="SecureString")
    queue = root.client("sqs").create_queue(QueueName="events")["QueueUrl"]
    receive_events(root, roles["receiver"], queue)
    root.client("ecs").create_cluster(clusterName=CLUSTER)
    root.client("ecs").create_cluster(clusterName="other")
    fleet = Fleet(
        root=root,
        ecs_url=ecs_url,
        folder=folder,
        definition="",
        queue=queue,
        roles=roles,
        processes=processes,
    )
    return replace(fleet, definition=register(fleet, "workers", roles["execution"], SECRET))


def allow(action: str, resource: str, **condition: Any) -> dict[str, Any]:
    """One policy statement."""
    return {
        "Effect": "Allow",
        "Action": action,
        "Resource": resource,
        **({"Condition": condition} if condition else {}),
    }


def make_role(root: RootClients, name: str, statements: list[dict[str, Any]]) -> str:
    """A role that anyone may assume."""
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
    iam = root.client("iam")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    if statements:
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps({"Statement": statements}))
    return arn


def receive_events(root: RootClients, role: str, queue: str) -> None:
    """A rule for this cluster's task events, and a function that keeps them."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("receiver.py", RECEIVER)
    arn = root.client("lambda").create_function(
        FunctionName="receiver",
        Runtime="python3.13",
        Role=role,
        Handler="receiver.handler",
        Code={"ZipFile": archive.getvalue()},
        Environment={"Variables": {"QUEUE": queue}},
    )["FunctionArn"]
    pattern = {
        "source": ["aws.ecs"],
        "detail-type": ["ECS Task State Change"],
        "detail": {"clusterArn": [f"arn:aws:ecs:{REGION}:000000000000:cluster/{CLUSTER}"]},
    }
    root.client("events").put_rule(Name="tasks", EventPattern=json.dumps(pattern))
    root.client("events").put_targets(Rule="tasks", Targets=[{"Id": "receiver", "Arn": arn}])


def register(fleet: Fleet, family: str, role: str, secret: str) -> str:
    """A task definition through the endpoint; returns its ARN."""
    container = {
        "name": "worker",
        "image": "worker:1",
        "stopTimeout": 2,
        "environment": [{"name": "FROM_DEFINITION", "value": "1"}, {"name": "TO_OVERRIDE", "value": "definition"}],
        "secrets": [{"name": "QUAYMASTER_TOKEN", "valueFrom": secret}],
        "command": ["--count", "1"],
    }
    answer = fleet.ecs().register_task_definition(
        family=family,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        executionRoleArn=role,
        containerDefinitions=[container],
    )
    return answer["taskDefinition"]["taskDefinitionArn"]


def assume(fleet: Fleet, role: str) -> Any:
    """An ECS client that acts as a role."""
    session = fleet.root.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    return fleet.ecs(
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    )


def refusal(call: Callable[[], object]) -> dict[str, Any]:
    """The error answer of a call that must fail."""
    with pytest.raises(ClientError) as raised:
        call()
    return cast(dict[str, Any], raised.value.response)


def test_a_task_is_a_process_with_its_definition_overrides_and_secrets_and_nothing_else(
    services: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "environment"
    (task,) = services.run(out, variables={"TO_OVERRIDE": "override"}, startedBy="launch-1")
    assert (task["lastStatus"], task["startedBy"], task["launchType"]) == ("PROVISIONING", "launch-1", "FARGATE")
    running = services.wait(task["taskArn"], "RUNNING")
    given = dict(line.split("=", 1) for line in until(lambda: out.read_text() if out.exists() else "").splitlines())
    assert given["QUAYMASTER_TOKEN"] == "a token"
    assert (given["FROM_DEFINITION"], given["TO_OVERRIDE"]) == ("1", "override")
    assert not [name for name in given if name.startswith("AWS_") or "SECRET" in name]
    metadata = json.load(urllib.request.urlopen(given["ECS_CONTAINER_METADATA_URI_V4"] + "/task"))
    assert (metadata["TaskARN"], metadata["LaunchType"]) == (task["taskArn"], "FARGATE")
    assert metadata["Cluster"] == running["clusterArn"]
    assert psutil.Process(agent_pid(running)).is_running()
    services.stop(task["taskArn"])


def test_a_stopped_task_ends_by_sigterm_with_all_that_it_started(services: Fleet) -> None:
    (task,) = services.run(variables={"QUAYMASTER_TEST_CHILD": "1"})
    running = services.wait(task["taskArn"], "RUNNING")
    agent = psutil.Process(agent_pid(running))
    family = [agent, *until(agent.children)]
    stopped = services.stop(task["taskArn"])
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "enough")
    assert stopped["containers"][0]["exitCode"] == 143
    psutil.wait_procs(family, timeout=60)
    assert not [one for one in family if one.is_running()]


def test_what_ignores_sigterm_is_killed_after_the_stop_timeout(services: Fleet) -> None:
    (task,) = services.run(variables={"QUAYMASTER_TEST_STUBBORN": "1"})
    services.wait(task["taskArn"], "RUNNING")
    began = time.monotonic()
    assert services.stop(task["taskArn"])["containers"][0]["exitCode"] == 137
    assert time.monotonic() - began >= 2


def test_an_agent_that_is_killed_takes_its_container_with_it(services: Fleet) -> None:
    (task,) = services.run(variables={"QUAYMASTER_TEST_CHILD": "1"})
    agent = psutil.Process(agent_pid(services.wait(task["taskArn"], "RUNNING")))
    children = until(agent.children)
    agent.kill()
    ended = services.wait(task["taskArn"], "STOPPED")
    assert (ended["stopCode"], ended["containers"][0]["exitCode"]) == ("EssentialContainerExited", 137)
    assert not [one for one in children if one.is_running()]


def test_every_change_is_told_as_an_event_with_a_rising_version(services: Fleet) -> None:
    (task,) = services.run(variables={"QUAYMASTER_TEST_EXIT": "7"}, startedBy="launch-2")
    events = services.events(task["taskArn"], 5)
    details = [event["detail"] for event in events]
    statuses = ["PROVISIONING", "PENDING", "RUNNING", "DEPROVISIONING", "STOPPED"]
    assert [detail["lastStatus"] for detail in details] == statuses
    assert [detail["version"] for detail in details] == [1, 2, 3, 4, 5]
    last = details[-1]
    assert (last["stopCode"], last["containers"][0]["exitCode"]) == ("EssentialContainerExited", 7)
    assert (last["startedBy"], last["group"], last["desiredStatus"]) == ("launch-2", "family:workers", "STOPPED")
    assert (events[0]["source"], events[0]["detail-type"]) == ("aws.ecs", "ECS Task State Change")


def test_tasks_of_other_clusters_match_no_rule(services: Fleet) -> None:
    (other,) = services.run(cluster="other", variables={"QUAYMASTER_TEST_EXIT": "0"})
    (ours,) = services.run(variables={"QUAYMASTER_TEST_EXIT": "0"})
    assert services.events(ours["taskArn"], 5)
    rest = services.root.client("sqs").receive_message(QueueUrl=services.queue, MaxNumberOfMessages=10)
    assert other["taskArn"] not in json.dumps(rest.get("Messages", []), default=str)


def test_a_repeated_client_token_starts_nothing_and_another_request_with_it_conflicts(services: Fleet) -> None:
    first = services.run(clientToken="launch-3.1", count=2, startedBy="launch-3")
    again = services.run(clientToken="launch-3.1", count=2, startedBy="launch-3")
    arns = sorted(task["taskArn"] for task in first)
    assert sorted(task["taskArn"] for task in again) == arns
    listed = services.ecs().list_tasks(cluster=CLUSTER, startedBy="launch-3")["taskArns"]
    assert sorted(listed) == arns
    conflict = refusal(lambda: services.run(clientToken="launch-3.1", count=3, startedBy="launch-3"))
    assert conflict["Error"]["Code"] == "ConflictException"
    assert sorted(conflict["resourceIds"]) == arns
    for arn in arns:
        services.stop(arn)


def test_lists_come_in_pages_and_stopped_tasks_are_listed_apart(services: Fleet) -> None:
    arns = {task["taskArn"] for task in services.run(count=3, startedBy="launch-4")}
    ecs = services.ecs()
    pages = ecs.get_paginator("list_tasks").paginate(
        cluster=CLUSTER, startedBy="launch-4", PaginationConfig={"PageSize": 2}
    )
    sizes = [len(page["taskArns"]) for page in pages]
    assert sizes == [2, 1]
    for arn in arns:
        services.stop(arn)
    assert ecs.list_tasks(cluster=CLUSTER, startedBy="launch-4")["taskArns"] == []
    assert set(ecs.list_tasks(cluster=CLUSTER, startedBy="launch-4", desiredStatus="STOPPED")["taskArns"]) == arns


def test_a_task_nobody_knows_is_reported_missing(services: Fleet) -> None:
    answer = services.ecs().describe_tasks(cluster=CLUSTER, tasks=["0" * 32])
    assert answer["failures"][0]["reason"] == "MISSING"
    assert refusal(lambda: services.ecs().stop_task(cluster=CLUSTER, task="0" * 32))["Error"]["Code"] == (
        "InvalidParameterException"
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"networkConfiguration": {}}, "InvalidParameterException"),
        ({"count": 11}, "InvalidParameterException"),
        ({"taskDefinition": "nobody"}, "ClientException"),
        ({"cluster": "nowhere"}, "ClusterNotFoundException"),
        ({"overrides": {"containerOverrides": [{"name": "sidecar"}]}}, "InvalidParameterException"),
    ],
)
def test_a_wrong_request_is_refused_as_ecs_refuses_it(services: Fleet, change: dict[str, Any], code: str) -> None:
    assert refusal(lambda: services.run(**change))["Error"]["Code"] == code


def test_a_secret_that_the_execution_role_may_not_read_stops_the_task_before_it_starts(services: Fleet) -> None:
    definition = register(services, "powerless", services.roles["powerless"], SECRET)
    (task,) = services.run(taskDefinition=definition)
    stopped = services.wait(task["taskArn"], "STOPPED")
    assert (stopped["stopCode"], stopped["containers"]) == ("TaskFailedToStart", [])
    assert "not authorized to perform: ssm:GetParameters" in stopped["stoppedReason"]


def test_a_secret_that_is_not_there_stops_the_task_before_it_starts(services: Fleet) -> None:
    definition = register(services, "forgotten", services.roles["execution"], "/pools/none/token")
    (task,) = services.run(taskDefinition=definition)
    reason = services.wait(task["taskArn"], "STOPPED")["stoppedReason"]
    assert "invalid ssm parameters: /pools/none/token" in reason


def test_a_role_may_do_what_its_policies_allow_and_nothing_more(services: Fleet) -> None:
    here = {"ArnEquals": {"ecs:cluster": f"arn:aws:ecs:{REGION}:000000000000:cluster/{CLUSTER}"}}
    to_ecs = {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    runner = make_role(services.root, "runner", [allow("ecs:RunTask", "*:task-definition/workers:*", **here)])
    ecs = assume(services, runner)
    asked: dict[str, Any] = {"taskDefinition": services.definition, "networkConfiguration": NETWORK}

    def refused(**change: Any) -> str:
        return refusal(lambda: ecs.run_task(**{"cluster": CLUSTER, **asked, **change}))["Error"]["Message"]

    assert "iam:PassRole on resource: " + services.roles["execution"] in refused()
    assert "ecs:RunTask on resource: " in refused(cluster="other")
    passing = allow("iam:PassRole", services.roles["execution"], **to_ecs)
    document = json.dumps({"Statement": [passing]})
    services.root.client("iam").put_role_policy(RoleName="runner", PolicyName="pass", PolicyDocument=document)
    assert "ecs:TagResource on resource: " in refused(tags=[{"key": "pool", "value": "one"}])
    (task,) = ecs.run_task(cluster=CLUSTER, **asked)["tasks"]
    assert (
        "ecs:StopTask on resource: "
        in refusal(lambda: ecs.stop_task(cluster=CLUSTER, task=task["taskArn"]))["Error"]["Message"]
    )
    assert refusal(lambda: ecs.list_tasks(cluster=CLUSTER))["Error"]["Code"] == "AccessDeniedException"
    assert refusal(lambda: ecs.describe_task_definition(taskDefinition="workers"))["Error"]["Code"] == (
        "AccessDeniedException"
    )
    services.stop(task["taskArn"])


def test_who_did_not_sign_or_signed_wrongly_is_refused(services: Fleet) -> None:
    target = {"X-Amz-Target": "AmazonEC2ContainerServiceV20141113.ListTasks"}
    unsigned = urllib.request.Request(services.ecs_url, data=b"{}", headers=target)
    with pytest.raises(urllib.error.HTTPError) as raised, urllib.request.urlopen(unsigned):
        pass
    assert raised.value.code == 403
    raised.value.close()
    session = services.root.client("sts").assume_role(RoleArn=services.roles["powerless"], RoleSessionName="test")
    stolen = services.ecs(
        aws_access_key_id=session["Credentials"]["AccessKeyId"],
        aws_secret_access_key="guessed",
        aws_session_token=session["Credentials"]["SessionToken"],
    )
    assert refusal(lambda: stolen.list_tasks(cluster=CLUSTER))["Error"]["Code"] == "SignatureDoesNotMatch"
    unknown = services.ecs(aws_access_key_id="AKIAUNKNOWN", aws_secret_access_key="x")
    assert refusal(lambda: unknown.list_tasks(cluster=CLUSTER))["Error"]["Code"] == "UnrecognizedClientException"


def test_a_lost_answer_is_made_good_by_the_same_client_token(services: Fleet) -> None:
    services.root.order_fault(services.ecs_url, {"kind": "lose_answer"})
    tasks = services.run(clientToken="launch-5.1", startedBy="launch-5")
    assert services.ecs().list_tasks(cluster=CLUSTER, startedBy="launch-5")["taskArns"] == [tasks[0]["taskArn"]]
    services.stop(tasks[0]["taskArn"])


def test_ordered_faults_meet_one_run_task_each(services: Fleet) -> None:
    order = services.root.order_fault
    order(services.ecs_url, {"kind": "refuse", "code": "ThrottlingException", "message": "slower"})
    order(services.ecs_url, {"kind": "fail", "message": "RESOURCE:ENI"})
    order(services.ecs_url, {"kind": "never_start", "message": "Timeout waiting for network interface provisioning"})
    single = cast(Any, services.root.session).client("ecs", endpoint_url=services.ecs_url, config=no_retries())
    asked = {"cluster": CLUSTER, "taskDefinition": services.definition, "networkConfiguration": NETWORK}
    assert refusal(lambda: single.run_task(**asked))["Error"]["Code"] == "ThrottlingException"
    assert single.run_task(**asked)["failures"][0]["reason"] == "RESOURCE:ENI"
    (task,) = single.run_task(**asked)["tasks"]
    stopped = services.wait(task["taskArn"], "STOPPED")
    assert (stopped["stopCode"], stopped["containers"]) == ("TaskFailedToStart", [])
    assert stopped["stoppedReason"].startswith("Timeout waiting for network interface")


def test_a_call_that_hangs_is_answered_late_and_nothing_is_done_before(services: Fleet) -> None:
    services.root.order_fault(services.ecs_url, {"kind": "hang", "seconds": 2})
    began = time.monotonic()
    answered: list[list[dict[str, Any]]] = []
    hanging = threading.Thread(target=lambda: answered.append(services.run(startedBy="launch-7")))
    hanging.start()
    time.sleep(1)
    assert services.ecs().list_tasks(cluster=CLUSTER, startedBy="launch-7")["taskArns"] == []
    hanging.join(60)
    assert time.monotonic() - began >= 2
    services.stop(answered[0][0]["taskArn"])


def test_a_pull_that_fails_may_be_told_by_the_container(services: Fleet) -> None:
    message = "CannotPullContainerError: pull image manifest has been retried 5 time(s): not found"
    services.root.order_fault(services.ecs_url, {"kind": "pull_fails", "message": message})
    (task,) = services.run()
    stopped = services.wait(task["taskArn"], "STOPPED")
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("TaskFailedToStart", "Task failed to start")
    assert stopped["containers"][0]["reason"] == message
    assert "exitCode" not in stopped["containers"][0]
    assert stopped["pullStartedAt"] <= stopped["stoppedAt"]


def test_a_slow_start_takes_so_much_longer(services: Fleet) -> None:
    services.root.order_fault(services.ecs_url, {"kind": "slow_start", "seconds": 2})
    (task,) = services.run()
    started = services.wait(task["taskArn"], "RUNNING")
    assert (started["startedAt"] - started["createdAt"]).total_seconds() >= 2
    services.stop(task["taskArn"])


def test_a_list_may_lag_behind_what_was_started(services: Fleet) -> None:
    services.root.order_fault(services.ecs_url, {"kind": "unlisted", "seconds": 2})
    (task,) = services.run(startedBy="launch-8")
    listed = services.ecs().list_tasks(cluster=CLUSTER, startedBy="launch-8")["taskArns"]
    assert listed == []
    assert services.describe(task["taskArn"])["desiredStatus"] == "RUNNING"
    until(lambda: services.ecs().list_tasks(cluster=CLUSTER, startedBy="launch-8")["taskArns"])
    services.stop(task["taskArn"])


def test_events_may_come_twice_late_or_never(services: Fleet) -> None:
    for kind in ("events_twice", "events_late", "events_lost"):
        services.root.order_fault(services.ecs_url, {"kind": kind, "seconds": 3})
    twice, late, lost = (services.run()[0]["taskArn"] for _ in range(3))
    began = time.monotonic()
    for arn in (lost, twice, late):
        services.wait(arn, "RUNNING")
        services.stop(arn)
    found = services.every_event(until_of=late, at_least="STOPPED")
    assert time.monotonic() - began >= 3
    # Other tests' tasks are told of as well.
    told = [(event["resources"][0], event["id"]) for event in found if event["resources"][0] in (twice, late, lost)]
    assert {arn for arn, _ in told} == {twice, late}
    assert all(told.count(one) == (2 if one[0] == twice else 1) for one in told)


def test_a_task_that_is_taken_back_is_told_while_it_runs_and_when_it_has_stopped(services: Fleet) -> None:
    (task,) = services.run(startedBy="launch-6")
    services.wait(task["taskArn"], "RUNNING")
    services.root.order_fault(services.ecs_url, {"kind": "take_back", "task": task["taskArn"]})
    stopped = services.wait(task["taskArn"], "STOPPED")
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("SpotInterruption", "Your Spot Task was interrupted.")


def no_retries() -> Any:
    """A client configuration that shows the first answer."""
    from botocore.config import Config

    return Config(retries={"total_max_attempts": 1})


def test_nothing_listens_beyond_the_loopback_interface(services: Fleet) -> None:
    listening: list[str] = []
    for identity in services.processes:
        service = psutil.Process(identity.pid)
        for process in [service, *service.children(recursive=True)]:
            sockets = process.net_connections(kind="inet")
            listening += [one.laddr[0] for one in sockets if one.status == psutil.CONN_LISTEN]
    assert len(listening) == 3
    assert set(listening) == {"127.0.0.1"}


def test_what_a_task_wrote_is_gone_when_it_has_stopped(services: Fleet, tmp_path: Path) -> None:
    out = tmp_path / "environment"
    (task,) = services.run(out)
    services.wait(task["taskArn"], "RUNNING")
    until(out.exists)
    services.stop(task["taskArn"])
    until(lambda: not os.listdir(services.folder / "tasks"))


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_tasks_end_with_the_endpoint_however_it_ends(local_settings: Settings, logs: Path, end: str) -> None:
    with fleet(local_settings, logs / f"ecs-{end}") as own:
        (task,) = own.run(variables={"QUAYMASTER_TEST_CHILD": "1", "QUAYMASTER_TEST_STUBBORN": "1"})
        agent = psutil.Process(agent_pid(own.wait(task["taskArn"], "RUNNING")))
        family = [agent, *until(agent.children)]
        endpoint = own.processes[0]
        if end == "stop":
            stop_all([endpoint])
        else:
            psutil.Process(endpoint.pid).kill()
        until(lambda: not [one for one in family if one.is_running()])
