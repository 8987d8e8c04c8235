"""A running local cloud, as it is brought up and as it is written to `deployment.json`."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quaymaster_local.aws import RootClients
from quaymaster_local.build import build
from quaymaster_local.ministack.server import Ministack
from quaymaster_local.processes.lifeline import Lifeline
from quaymaster_local.processes.sessions import ProcessIdentity, stop_all
from quaymaster_local.progress import Progress, Tell
from quaymaster_local.services import ServicePlan, start_services
from quaymaster_local.settings import REGION, ROOT_ACCESS_KEY, ROOT_SECRET_KEY, Settings
from quaymaster_local.stack import (
    STACK_NAME,
    Stack,
    StackRequest,
    deploy,
    enable_ttl,
    local_function_url,
    network,
    push_worker,
    write_agents_parameter,
)

NAMESPACE = "quaymaster"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a local cloud is brought up.

    `start_delay_seconds` stands for the time Fargate takes to start a task; `parameters` are further ones of the
    template.
    """

    namespace: str = NAMESPACE
    start_delay_seconds: float = 0.3
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Everything a client of a local cloud needs to know, and everything that ending it takes.

    `folder` holds its state and goes with it; `logs` holds its logs.
    """

    name: str
    namespace: str
    stack_name: str
    region: str
    endpoint_url: str
    ecs_endpoint_url: str
    api_url: str
    mqtt_host: str
    mqtt_port: int
    ca_pem: str
    credentials: Mapping[str, str]
    outputs: Mapping[str, str]
    functions: Mapping[str, str]
    processes: tuple[ProcessIdentity, ...]
    folder: str
    logs: str
    started_at: str
    seconds: Mapping[str, float]

    def write(self, file: Path) -> None:
        """Write it as JSON, readable by this user only."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(json.dumps(asdict(self), indent=2) + "\n")

    def environment(self) -> dict[str, str]:
        """The variables that point AWS clients and the `quaymaster` command line at this cloud."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.credentials["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.credentials["secret_access_key"],
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "QUAYMASTER_API_URL": self.api_url,
        }


def read_deployment(file: Path) -> Deployment:
    """The deployment written to this file."""
    document: dict[str, Any] = json.loads(file.read_text())
    processes = tuple(ProcessIdentity(**one) for one in document.pop("processes"))
    return Deployment(processes=processes, **document)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A local cloud to bring up: `logs` is where its logs are kept, None for only as long as it runs.

    `tell` hears of each step.
    """

    name: str
    settings: Settings
    logs: Path | None
    options: Options
    tell: Tell


def bring_up(plan: Plan, lifeline: Lifeline) -> Deployment:
    """Start the processes, build and deploy; whatever stops this midway, Ctrl-C too, leaves nothing behind.

    The processes stop with the lifeline, unless the caller releases them.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"quaymaster-{plan.name}-"))
    # Tasks' phases may run under another user: they may pass through, and see nothing on the way.
    folder.chmod(0o711)
    service_plan = ServicePlan(
        folder=folder,
        logs=plan.logs or folder / "logs",
        lifeline=lifeline,
        start_delay_seconds=plan.options.start_delay_seconds,
    )
    started: list[ProcessIdentity] = []
    try:
        return _bring_up(plan, service_plan, started)
    except BaseException:
        lifeline.close()
        stop_all(started[::-1])
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _bring_up(plan: Plan, service_plan: ServicePlan, started: list[ProcessIdentity]) -> Deployment:
    settings, options, progress = plan.settings, plan.options, Progress(plan.tell)
    # Asked for first: a missing tool is told before anything is started.
    _ = settings.sam
    with progress.step("start services"):
        services = start_services(settings, service_plan, started.append)
    with progress.step("build"):
        template = build(settings)
    ministack = services.ministack
    with progress.step("deploy"), closing(RootClients(ministack.endpoint_url)) as clients:
        parameters = {"Namespace": options.namespace, "EcsEndpoint": services.ecs_endpoint_url}
        sam_folder = service_plan.folder / "sam"
        sam_folder.mkdir()
        stack_request = StackRequest(
            template=template,
            name=STACK_NAME,
            parameters={**parameters, **network(clients), **options.parameters},
            log=service_plan.logs / "sam-deploy.log",
            folder=sam_folder,
        )
        stack = deploy(settings, clients, stack_request)
        ca_pem = finish(clients, stack, ministack, options.namespace)
    return Deployment(
        name=plan.name,
        namespace=options.namespace,
        stack_name=stack.name,
        region=REGION,
        endpoint_url=ministack.endpoint_url,
        ecs_endpoint_url=services.ecs_endpoint_url,
        api_url=local_function_url(ministack.endpoint_url, stack.outputs["ApiUrl"]),
        mqtt_host="localhost",
        mqtt_port=ministack.mqtt_port,
        ca_pem=ca_pem,
        credentials={"access_key_id": ROOT_ACCESS_KEY, "secret_access_key": ROOT_SECRET_KEY},
        outputs=stack.outputs,
        functions=stack.functions,
        processes=services.processes,
        folder=str(service_plan.folder),
        logs=str(service_plan.logs),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=progress.seconds,
    )


def finish(clients: RootClients, stack: Stack, ministack: Ministack, namespace: str) -> str:
    """Do what ministack's CloudFormation leaves out; returns the PEM of the CA that agents must trust."""
    ca_pem = ministack.certificate_authority()
    write_agents_parameter(clients, namespace, ministack.mqtt_port, ca_pem)
    push_worker(clients, namespace)
    enable_ttl(clients, stack.outputs["TableName"])
    return ca_pem


def take_down(deployment: Deployment) -> None:
    """Stop the cloud's processes, if they are still the ones it started, and remove its state."""
    stop_all(deployment.processes)
    shutil.rmtree(deployment.folder, ignore_errors=True)
