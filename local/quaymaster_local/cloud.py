"""The local cloud: `up`, `down` and `status` for people, `LocalCloud` for tests and the demo."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3

from quaymaster_local.agent import AgentCommand, AgentProcess, start_agent
from quaymaster_local.aws import RootClients
from quaymaster_local.deployment import Deployment, Options, Plan, bring_up, read_deployment, take_down
from quaymaster_local.errors import AlreadyUp, LocalCloudError, NotUp
from quaymaster_local.processes.lifeline import Lifeline
from quaymaster_local.progress import Tell, tell_nobody
from quaymaster_local.settings import Settings, load_settings

DEFAULT_NAME = "default"
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


@dataclass(frozen=True, kw_only=True)
class CloudStatus:
    """Whether a local cloud runs: `state` is `up`, `down`, or `broken` when some of its processes are gone."""

    name: str
    state: str
    processes: Mapping[str, bool]
    deployment: Deployment | None


def up(
    name: str = DEFAULT_NAME,
    *,
    settings: Settings | None = None,
    options: Options | None = None,
    tell: Tell = tell_nobody,
) -> Deployment:
    """Bring a local cloud up; it goes on after this process ends. Raises AlreadyUp and other LocalCloudErrors.

    What is left of a broken one of that name is removed first.
    """
    paths = settings or load_settings()
    found = status(name, settings=paths)
    if found.state == "up":
        raise AlreadyUp(f"the local cloud {name!r} is up already: `quaymaster local down --name {name}` ends it")
    if found.state == "broken":
        down(name, settings=paths)
    folder = paths.clouds / _checked(name)
    lifeline = Lifeline()
    plan = Plan(name=name, settings=paths, logs=folder / "logs", options=options or Options(), tell=tell)
    try:
        deployment = bring_up(plan, lifeline)
        deployment.write(_record(paths, name))
    except BaseException:
        _remove(paths, name)
        raise
    lifeline.release(len(deployment.processes))
    return deployment


def down(name: str = DEFAULT_NAME, *, settings: Settings | None = None) -> None:
    """Stop the local cloud's processes and remove everything it wrote; raises NotUp."""
    paths = settings or load_settings()
    found = status(name, settings=paths)
    if found.deployment is None:
        raise NotUp(f"no local cloud named {name!r} in {paths.clouds}")
    take_down(found.deployment)
    _remove(paths, name)


def status(name: str = DEFAULT_NAME, *, settings: Settings | None = None) -> CloudStatus:
    """Whether the local cloud of that name runs, judged by its processes."""
    paths = settings or load_settings()
    record = _record(paths, _checked(name))
    if not record.exists():
        return CloudStatus(name=name, state="down", processes={}, deployment=None)
    deployment = read_deployment(record)
    running = {one.name: one.running() is not None for one in deployment.processes}
    state = "up" if all(running.values()) else "broken"
    return CloudStatus(name=name, state=state, processes=running, deployment=deployment)


def _checked(name: str) -> str:
    if not NAME_PATTERN.fullmatch(name):
        raise LocalCloudError(f"{name!r} is no name of a local cloud: lower-case letters, digits and hyphens, please")
    return name


def _remove(settings: Settings, name: str) -> None:
    shutil.rmtree(settings.clouds / name, ignore_errors=True)
    # Other clouds may lie there still.
    if settings.clouds.is_dir() and not any(settings.clouds.iterdir()):
        settings.clouds.rmdir()


def _record(settings: Settings, name: str) -> Path:
    return settings.clouds / name / "deployment.json"


class LocalCloud:
    """A local cloud that ends with the `with` block, and with this process at the latest.

    `logs` is where its logs are kept; None keeps them only while it runs.
    """

    def __init__(
        self,
        name: str = "test",
        *,
        settings: Settings | None = None,
        options: Options | None = None,
        logs: Path | None = None,
        tell: Tell = tell_nobody,
    ) -> None:
        self._name = _checked(name)
        self._settings = settings or load_settings()
        self._options = options or Options()
        self._logs = logs
        self._tell = tell
        self._agents: list[AgentProcess] = []
        self._lifeline = Lifeline()
        self._deployment: Deployment | None = None

    def __enter__(self) -> Self:
        """Bring it up; raises LocalCloudError."""
        plan = Plan(name=self._name, settings=self._settings, logs=self._logs, options=self._options, tell=self._tell)
        self._deployment = bring_up(plan, self._lifeline)
        self._clients = RootClients(self._deployment.endpoint_url)
        self._ecs_clients = RootClients(self._deployment.ecs_endpoint_url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it down with its agents."""
        for agent in self._agents:
            agent.close()
        for clients in (self._clients, self._ecs_clients):
            clients.close()
        take_down(self.deployment)
        self._lifeline.close()

    @property
    def deployment(self) -> Deployment:
        """Everything known of the running cloud; raises NotUp outside the `with` block."""
        if self._deployment is None:
            raise NotUp("the local cloud is not up: enter it first")
        return self._deployment

    @property
    def session(self) -> boto3.Session:
        """A boto3 session with root's credentials; it does not know the endpoint, `client` does."""
        return self._clients.session

    def client(self, service: str) -> Any:
        """A boto3 client of this cloud, signed as root."""
        return self._clients.client(service)

    @property
    def endpoint_url(self) -> str:
        """The `AWS_ENDPOINT_URL` of this cloud."""
        return self.deployment.endpoint_url

    @property
    def ecs_endpoint_url(self) -> str:
        """The endpoint of this cloud's ECS."""
        return self.deployment.ecs_endpoint_url

    @property
    def api_url(self) -> str:
        """The function URL of the API, signed requests (service `lambda`) only."""
        return self.deployment.api_url

    @property
    def mqtt_host(self) -> str:
        """The host that MQTT clients connect to."""
        return self.deployment.mqtt_host

    @property
    def mqtt_port(self) -> int:
        """The port that MQTT clients connect to."""
        return self.deployment.mqtt_port

    @property
    def ca_pem(self) -> str:
        """The CA that MQTT clients must trust."""
        return self.deployment.ca_pem

    @property
    def namespace(self) -> str:
        """The namespace deployed with."""
        return self.deployment.namespace

    @property
    def outputs(self) -> Mapping[str, str]:
        """The stack's outputs."""
        return self.deployment.outputs

    def function_name(self, logical_id: str) -> str:
        """The name of a function of the stack, such as `ReapOverdue`."""
        return self.deployment.functions[logical_id]

    def ecs(self) -> Any:
        """A boto3 client of this cloud's ECS, signed as root."""
        return self._ecs_clients.client("ecs")

    def invoke(self, logical_id: str, event: Mapping[str, Any]) -> Any:
        """Invoke a function and return what it returns; raises LocalCloudError with its own error if it fails."""
        answer = self.client("lambda").invoke(
            FunctionName=self.function_name(logical_id), Payload=json.dumps(event).encode()
        )
        payload = answer["Payload"].read()
        if "FunctionError" in answer:
            raise LocalCloudError(f"{logical_id} failed: {payload.decode(errors='replace')}")
        return json.loads(payload) if payload else None

    def reap(self) -> Any:
        """Run one sweep of the reaper now and return its answer; the schedule goes on beside it, every minute."""
        return self.invoke("ReapOverdue", {"source": "aws.scheduler", "detail-type": "Scheduled Event", "detail": {}})

    def order_fault(self, kind: str, *, code: str = "", message: str = "", seconds: float = 0, count: int = 1) -> None:
        """Let something go wrong with the next `count` RunTasks, or with their tasks (`ecs.faults` says what may)."""
        fault = {"kind": kind, "message": message, "seconds": seconds, "count": count}
        fault |= {"code": code} if code else {}
        self._clients.order_fault(self.ecs_endpoint_url, fault)

    def take_back(self, task_arn: str) -> None:
        """Want a task's Spot capacity back: ECS says so, and the task gets SIGTERM."""
        self._clients.order_fault(self.ecs_endpoint_url, {"kind": "take_back", "task": task_arn})

    def env(self) -> dict[str, str]:
        """The environment of a subprocess that is to use this cloud: endpoint, credentials, region, API."""
        return self.deployment.environment()

    @contextmanager
    def ending_agents(self) -> Generator[None]:
        """Agents that are started inside the block end with it, at the latest."""
        before = len(self._agents)
        try:
            yield
        finally:
            for agent in self._agents[before:]:
                agent.close()

    def start_agent(
        self,
        token: str,
        key: str,
        count: int = 1,
        *,
        env: Mapping[str, str] | None = None,
        state_dir: Path | None = None,
        prefix: str = "QUAYMASTER_",
    ) -> AgentProcess:
        """Start `quaymaster-agent` with a pool's token and private key (PEM), in variables with this prefix.

        The same `state_dir` again stands for a restart on the same host. It ends with the cloud at the latest.
        """
        number = len(self._agents)
        own = state_dir or Path(self.deployment.folder) / "agents" / str(number)
        own.mkdir(parents=True, exist_ok=True)
        fixed = {"TOKEN": token, "POOL_PRIVATE_KEY": key, "STATE_DIR": str(own)}
        given = {f"{prefix}{name}": value for name, value in fixed.items()} | dict(env or {})
        command = AgentCommand(
            agent=self._settings.agent,
            arguments=("--count", str(count)),
            environ=given,
            state_dir=own,
            log=Path(self.deployment.logs) / f"agent-{number}.log",
        )
        agent = start_agent(command)
        self._agents.append(agent)
        return agent
