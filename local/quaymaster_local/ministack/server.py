"""ministack: every AWS service of the local cloud except ECS, in an interpreter and a process of its own."""

from __future__ import annotations

import secrets
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quaymaster_local.errors import StartFailed
from quaymaster_local.processes.ports import answers, free_ports
from quaymaster_local.processes.sessions import Command, ProcessIdentity, Started, start
from quaymaster_local.settings import LOOPBACK, Settings, child_environment

START_SECONDS = 30
LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, kw_only=True)
class Ministack:
    """A running ministack. `secret` lets the ECS endpoint ask it who signed a request."""

    identity: ProcessIdentity
    gateway_port: int
    mqtt_port: int
    secret: str

    @property
    def endpoint_url(self) -> str:
        """Where every AWS client of the local cloud is pointed."""
        return f"http://{LOOPBACK}:{self.gateway_port}"

    def certificate_authority(self) -> str:
        """The PEM of the CA that signed the MQTT listener's certificate."""
        with urllib.request.urlopen(f"{self.endpoint_url}/_ministack/iot/ca.pem", timeout=10) as answer:
            return str(answer.read().decode())


@dataclass(frozen=True, kw_only=True)
class MinistackPlan:
    """Where ministack keeps its state and log, and what it watches."""

    folder: Path
    log: Path
    lifeline: int


def start_ministack(settings: Settings, plan: MinistackPlan, started: Started) -> Ministack:
    """Start ministack on free ports, and wait until HTTP and MQTT are served.

    Raises StartFailed with the end of its log when it does not come up.
    """
    gateway_port, mqtt_port = free_ports(2)
    secret = secrets.token_urlsafe(24)
    plan.folder.mkdir(parents=True, exist_ok=True)
    environ = {
        **child_environment(),
        **_environment(plan.folder, gateway_port, mqtt_port),
        "QUAYMASTER_LOCAL_SECRET": secret,
        "QUAYMASTER_LOCAL_LIFELINE": str(plan.lifeline),
        # Functions inherit it.
        **({"PYTHONPATH": str(settings.function_path)} if settings.function_path else {}),
    }
    command = Command(
        name="ministack",
        # -P: this folder has a module named ministack, which must not hide the real one.
        argv=[settings.ministack_python, "-P", LAUNCHER],
        environ=environ,
        log=plan.log,
        folder=plan.folder,
        lifeline=plan.lifeline,
    )
    process, identity = start(command, started)
    wait_until_served(process, [gateway_port, mqtt_port], plan.log)
    return Ministack(identity=identity, gateway_port=gateway_port, mqtt_port=mqtt_port, secret=secret)


def _environment(folder: Path, gateway_port: int, mqtt_port: int) -> Mapping[str, str]:
    return {
        "AUTH": "true",
        "BIND_HOST": LOOPBACK,
        "GATEWAY_PORT": str(gateway_port),
        "IOT_MTLS_PORT": str(mqtt_port),
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "0",
        # Function code is unpacked under TMPDIR: with the cloud's folder it goes when the cloud goes.
        "TMPDIR": str(folder),
        "STATE_DIR": str(folder / "state"),
        "S3_DATA_DIR": str(folder / "s3"),
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
        "PYTHONUNBUFFERED": "1",
    }


def wait_until_served(process: subprocess.Popen[bytes], ports: list[int], log: Path) -> None:
    """Wait until each port accepts connections; raises StartFailed if the process ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while not all(answers(port) for port in ports):
        if process.poll() is not None:
            raise StartFailed(f"{process.args} ended with {process.returncode}; the end of {log}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise StartFailed(f"no answer on ports {ports} within {START_SECONDS} s; the end of {log}:\n{tail(log)}")
        time.sleep(0.05)


def tail(log: Path, characters: int = 3000) -> str:
    """The last part of a log file."""
    return log.read_text(errors="replace")[-characters:]
