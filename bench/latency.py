"""How long a request takes to its worker and to its command, beside an empty function behind the same queue.

All in one run on the local cloud, so that the ratios mean something on any machine.
"""

import io
import json
import statistics
import time
import zipfile
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import Any

from quaymaster_local.cloud import LocalCloud

from tests.shared.deployed.client import Credential, Deployment

SAMPLES = 40
PAUSE = 0.15
EMPTY = """
import time

def handler(event, context):
    with open({path!r}, "a") as ticks:
        ticks.write(f"{{time.time()}}\\n")
"""


def measure_latency() -> dict[str, float]:
    """p50 and p99 in milliseconds, and the ratios that travel."""
    with ExitStack() as stack:
        cloud = stack.enter_context(LocalCloud(name="bench"))
        deployment = stack.enter_context(closing(Deployment(cloud)))
        folder = Path(cloud.deployment.folder)
        empty = _quantiles("sqs_to_lambda_ms", _empty_function(cloud, folder))
        agent, command = _submissions(deployment, folder)
        task = _bare_tasks(deployment)
    figures = empty | _quantiles("submit_to_agent_ms", agent) | _quantiles("submit_to_command_ms", command)
    figures |= _quantiles("bare_runtask_ms", task)
    yardstick = figures["sqs_to_lambda_ms_p50"]
    for name in ("submit_to_agent", "submit_to_command"):
        figures[f"{name}_p50_over_sqs_to_lambda"] = round(figures[f"{name}_ms_p50"] / yardstick, 2)
    return figures


def _quantiles(name: str, seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"{name}_p50": round(cuts[49] * 1000, 1), f"{name}_p99": round(cuts[98] * 1000, 1)}


def _empty_function(cloud: LocalCloud, folder: Path) -> list[float]:
    """From SendMessage to the first line of a function that does nothing else."""
    ticks = folder / "empty-function"
    ticks.touch()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("empty.py", EMPTY.format(path=str(ticks)))
    role = _role(cloud)
    cloud.client("lambda").create_function(
        FunctionName="bench-empty",
        Runtime="python3.13",
        Role=role,
        Handler="empty.handler",
        Code={"ZipFile": packed.getvalue()},
        Timeout=20,
    )
    sqs = cloud.client("sqs")
    queue = sqs.create_queue(QueueName="bench-empty", Attributes={"VisibilityTimeout": "120"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    cloud.client("lambda").create_event_source_mapping(
        FunctionName="bench-empty", EventSourceArn=arn, BatchSize=10, ScalingConfig={"MaximumConcurrency": 10}
    )
    taken: list[float] = []
    for n in range(SAMPLES + 3):
        before = len(ticks.read_text().split())
        sent = time.time()
        sqs.send_message(QueueUrl=queue, MessageBody="{}")
        while len(moments := ticks.read_text().split()) == before:
            _not_for_ever(sent)
            time.sleep(0.001)
        if n >= 3:
            taken.append(float(moments[-1]) - sent)
        time.sleep(PAUSE)
    return taken


def _role(cloud: LocalCloud) -> str:
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    allow = {"Effect": "Allow", "Action": ["sqs:*", "logs:*"], "Resource": "*"}
    iam = cloud.client("iam")
    created = iam.create_role(
        RoleName="bench-empty", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    iam.put_role_policy(
        RoleName="bench-empty",
        PolicyName="queue",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allow]}),
    )
    return created["Role"]["Arn"]


def _submissions(deployment: Deployment, folder: Path) -> tuple[list[float], list[float]]:
    """From SendMessage to the agent's `assigned`, and to the command's own first moment."""
    pool = deployment.create_pool(accept_timeout="15s")
    agent = deployment.cloud.start_agent(pool.token, pool.key, 2)
    deployment.wait_workers(pool.pool_id, 2)
    to_agent: list[float] = []
    to_command: list[float] = []
    for n in range(SAMPLES + 3):
        sent = time.time()
        run = deployment.send(pool.pool_id, f"latency-{n}", ["date", "+%s.%N"])
        found = deployment.wait(run, seconds=60)
        if n >= 3:
            to_agent.append(_assigned_at(agent.output(), run) - sent)
            to_command.append(float(deployment.log(found)[0]["msg"]) - sent)
        time.sleep(PAUSE)
    return to_agent, to_command


def _assigned_at(output: str, run: str) -> float:
    for line in output.splitlines():
        said: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        if said.get("msg") == "assigned" and said.get("run") == run:
            return datetime.fromisoformat(said["ts"]).timestamp()
    raise RuntimeError(f"the agent never said that it was assigned {run}")


def _bare_tasks(deployment: Deployment) -> list[float]:
    """From RunTask to RUNNING, for a task that nobody asked anything of."""
    pool: Credential = deployment.create_pool("fargate")
    definition = deployment.read(f"/pools/{pool.pool_id}")["task_definition"]
    ecs, cluster = deployment.cloud.ecs(), deployment.cloud.outputs["ClusterName"]
    network = {"awsvpcConfiguration": {"subnets": ["subnet-local"], "assignPublicIp": "ENABLED"}}
    taken: list[float] = []
    for _ in range(5):
        sent = time.time()
        started = ecs.run_task(
            cluster=cluster, taskDefinition=definition, launchType="FARGATE", networkConfiguration=network
        )
        task = started["tasks"][0]["taskArn"]
        while ecs.describe_tasks(cluster=cluster, tasks=[task])["tasks"][0]["lastStatus"] != "RUNNING":
            _not_for_ever(sent)
            time.sleep(0.01)
        taken.append(time.time() - sent)
        ecs.stop_task(cluster=cluster, task=task, reason="measured")
    return taken


def _not_for_ever(since: float) -> None:
    if time.time() - since > 60:
        raise RuntimeError("nothing came within a minute")
