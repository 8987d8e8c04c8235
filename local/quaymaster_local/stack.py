"""The stack: `sam deploy` of the built template, and what a deployment needs that ministack leaves out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from quaymaster_local.aws import RootClients
from quaymaster_local.errors import DeployFailed
from quaymaster_local.settings import Settings, child_environment, root_environment

STACK_NAME = "quaymaster"
TTL_ATTRIBUTE = "expires_at"
WORKER_TAG = "0.1.0"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A deployed stack: its outputs, and the names of its functions by logical id."""

    name: str
    outputs: Mapping[str, str]
    functions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class StackRequest:
    """What to deploy, and where `sam` may write: its log, and whatever it leaves in `folder`."""

    template: Path
    name: str
    parameters: Mapping[str, str]
    log: Path
    folder: Path


def deploy(settings: Settings, clients: RootClients, request: StackRequest) -> Stack:
    """Deploy the built template into ministack and read what came of it; raises DeployFailed."""
    parameters = [f"{name}={value}" for name, value in request.parameters.items()]
    command = [str(settings.sam), "deploy", "--template-file", str(request.template)]
    # What is not said here is as the file has it for a deployment by hand; several stacks may lie in one cloud.
    command += ["--config-file", str(settings.source / "samconfig.toml"), "--config-env", "local"]
    command += ["--stack-name", request.name]
    command += ["--parameter-overrides", *parameters]
    environ = {**child_environment(), **root_environment(clients.endpoint_url), **_sam_environment(request.folder)}
    with request.log.open("w") as log:
        ended = subprocess.run(
            command, cwd=request.folder, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    if ended.returncode != 0:
        raise DeployFailed(f"`sam deploy` failed:\n{request.log.read_text()[-6000:]}")
    return read_stack(clients, request.name)


def _sam_environment(folder: Path) -> dict[str, str]:
    return {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "SAM_CLI_TELEMETRY": "0",
        # Seconds between its looks at the stack's events: 5 by default, which is most of a local deployment.
        "SAM_CLI_POLL_DELAY": "0.3",
    }


def read_stack(clients: RootClients, name: str) -> Stack:
    """The outputs and functions of a deployed stack."""
    cloudformation = clients.client("cloudformation")
    described = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    functions: dict[str, str] = {}
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=name):
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceType"] == "AWS::Lambda::Function":
                functions[resource["LogicalResourceId"]] = resource["PhysicalResourceId"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", ())}
    return Stack(name=name, outputs=outputs, functions=functions)


def write_agents_parameter(clients: RootClients, namespace: str, mqtt_port: int, ca_pem: str) -> None:
    """Tell the control plane where agents of this cloud connect, and which CA they must trust."""
    value = json.dumps({"mqtt": [{"host": "localhost", "port": mqtt_port}], "ca": ca_pem})
    clients.client("ssm").put_parameter(
        Name=f"/quaymaster/{namespace}/agents", Value=value, Type="String", Overwrite=True
    )


def network(clients: RootClients) -> dict[str, str]:
    """A subnet and a security group of this cloud, as parameters: nothing is placed in them, but they must be there."""
    ec2 = clients.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]
    of_its_network = [{"Name": "vpc-id", "Values": [subnet["VpcId"]]}]
    group = ec2.describe_security_groups(Filters=of_its_network)["SecurityGroups"][0]
    return {"Subnets": subnet["SubnetId"], "SecurityGroups": group["GroupId"]}


def push_worker(clients: RootClients, namespace: str) -> None:
    """Have an image in the stack's repository, as its operator pushes one; tasks here are processes all the same."""
    ecr, repository = clients.client("ecr"), f"{namespace}/worker"
    tagged = [{"imageTag": WORKER_TAG}]
    if not ecr.describe_images(repositoryName=repository, imageIds=tagged)["imageDetails"]:
        ecr.put_image(repositoryName=repository, imageManifest="{}", imageTag=WORKER_TAG)


def enable_ttl(clients: RootClients, table: str) -> None:
    """Turn the table's TTL on: ministack's CloudFormation drops the property silently."""
    specification = {"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
    clients.client("dynamodb").update_time_to_live(TableName=table, TimeToLiveSpecification=specification)


def local_function_url(endpoint_url: str, function_url: str) -> str:
    """Where ministack serves a function URL without needing a name that resolves."""
    url_id = (urlsplit(function_url).hostname or "").partition(".")[0]
    if not url_id:
        raise DeployFailed(f"the stack's ApiUrl is not a function URL: {function_url!r}")
    return f"{endpoint_url}/_aws/lambda-url/{url_id}"
