"""The two processes of a local cloud: ministack, and the ECS endpoint beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quaymaster_local.ecs.endpoint import EndpointConfig
from quaymaster_local.ministack.server import Ministack, MinistackPlan, start_ministack, wait_until_served
from quaymaster_local.processes.lifeline import Lifeline
from quaymaster_local.processes.ports import free_ports
from quaymaster_local.processes.sessions import Command, ProcessIdentity, Started, start
from quaymaster_local.settings import LOOPBACK, Settings, child_environment, python


@dataclass(frozen=True, kw_only=True)
class ServicePlan:
    """Where the services keep their state and logs, and how they behave.

    `start_delay_seconds` stands for the time Fargate takes to start a task. When the lifeline ends, both stop by
    themselves and `folder` is removed.
    """

    folder: Path
    logs: Path
    lifeline: Lifeline
    start_delay_seconds: float = 0.3


@dataclass(frozen=True, kw_only=True)
class Services:
    """Running services. `processes` are in the order of stopping: tasks go before what they talk to."""

    ministack: Ministack
    ecs_endpoint_url: str
    processes: tuple[ProcessIdentity, ...]


def start_services(settings: Settings, plan: ServicePlan, started: Started) -> Services:
    """Start both and wait until they serve; `started` hears of each at once.

    Raises ToolMissing before anything is started, and StartFailed.
    """
    agent, _ = settings.agent, settings.ministack_python
    plan.logs.mkdir(parents=True, exist_ok=True)
    ministack_plan = MinistackPlan(
        folder=plan.folder / "ministack", log=plan.logs / "ministack.log", lifeline=plan.lifeline.read_end
    )
    ministack = start_ministack(settings, ministack_plan, started)
    port, endpoint = _start_ecs_endpoint(agent, ministack, plan, started)
    return Services(
        ministack=ministack,
        ecs_endpoint_url=f"http://{LOOPBACK}:{port}",
        processes=(endpoint, ministack.identity),
    )


def _start_ecs_endpoint(
    agent: Path, ministack: Ministack, plan: ServicePlan, started: Started
) -> tuple[int, ProcessIdentity]:
    (port,) = free_ports(1)
    tasks, task_logs = plan.folder / "tasks", plan.logs / "tasks"
    tasks.mkdir(mode=0o755)
    task_logs.mkdir(exist_ok=True)
    environ = child_environment()
    config = EndpointConfig(
        port=port,
        endpoint_url=ministack.endpoint_url,
        secret=ministack.secret,
        agent=str(agent),
        folder=str(plan.folder),
        tasks=str(tasks),
        logs=str(task_logs),
        path=environ.get("PATH", "/usr/bin:/bin"),
        start_delay_seconds=plan.start_delay_seconds,
        lifeline=plan.lifeline.read_end,
    )
    file = plan.folder / "ecs-endpoint.json"
    config.write(file)
    log = plan.logs / "ecs-endpoint.log"
    command = Command(
        name="ecs-endpoint",
        argv=[python(), "-m", "quaymaster_local.ecs.endpoint", file],
        environ=environ,
        log=log,
        folder=plan.folder,
        lifeline=plan.lifeline.read_end,
    )
    process, identity = start(command, started)
    wait_until_served(process, [port], log)
    return port, identity
