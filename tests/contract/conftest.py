"""AWS for the contract suites of the cloud ports: ministack and the ECS endpoint, without the stack."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.credentials import Credentials
from moto import mock_aws
from quaymaster_local.aws import RootClients
from quaymaster_local.processes.lifeline import Lifeline
from quaymaster_local.processes.sessions import ProcessIdentity, stop_all
from quaymaster_local.services import ServicePlan, start_services
from quaymaster_local.settings import REGION, ROOT_ACCESS_KEY, ROOT_SECRET_KEY, Settings

# Stands for the agent: a task that does nothing until it is stopped.
AGENT = """#!/bin/sh
env > "$QUAYMASTER_STATE_DIR/environment"
while :; do sleep 0.05; done
"""


@dataclass(frozen=True, kw_only=True)
class BareCloud:
    """Services without a stack."""

    root: RootClients
    endpoint_url: str
    ecs_url: str
    mqtt_port: int
    ca_pem: str
    folder: Path

    def client(self, service: str) -> Any:
        """A client of a service, signed as root."""
        return self.root.client(service)

    def client_as(self, role: str, service: str) -> Any:
        """A client of a service that acts as a role."""
        given = self.client("sts").assume_role(RoleArn=role, RoleSessionName="contract")["Credentials"]
        make: Any = boto3
        return make.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
        )

    def ecs(self) -> Any:
        """A client of the ECS endpoint, signed as root."""
        make: Any = self.root.session
        return make.client("ecs", endpoint_url=self.ecs_url)


@pytest.fixture(scope="session")
def bare_cloud(local_settings: Settings, logs: Path) -> Iterator[BareCloud]:
    """ministack with AUTH on, and the ECS endpoint."""
    folder = Path(tempfile.mkdtemp(prefix="quaymaster-contract-"))
    folder.chmod(0o711)
    agent = folder / "agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    plan = ServicePlan(folder=folder, logs=logs / "contract", lifeline=Lifeline(), start_delay_seconds=0.1)
    processes: list[ProcessIdentity] = []
    try:
        started = start_services(replace(local_settings, agent_program=agent), plan, processes.append)
        yield BareCloud(
            root=RootClients(started.ministack.endpoint_url),
            endpoint_url=started.ministack.endpoint_url,
            ecs_url=started.ecs_endpoint_url,
            mqtt_port=started.ministack.mqtt_port,
            ca_pem=started.ministack.certificate_authority(),
            folder=folder,
        )
    finally:
        stop_all(processes[::-1])
        plan.lifeline.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS in this process."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ROOT_ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ROOT_SECRET_KEY)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield


@pytest.fixture
def root_credentials() -> Credentials:
    """What signs as root."""
    return Credentials(ROOT_ACCESS_KEY, ROOT_SECRET_KEY)
