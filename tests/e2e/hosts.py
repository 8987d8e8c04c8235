"""Hosts of a private pool, and what may befall the agents on them."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from quaymaster_local.agent import AgentProcess

from tests.shared.deployed.client import Credential, Deployment, wait_until


def start_host(
    deployment: Deployment, pool: Credential, count: int = 1, *, seconds: float = 120, **options: Any
) -> AgentProcess:
    """Start an agent and wait until its workers are IDLE."""
    before = sum(worker["state"] == "IDLE" for worker in deployment.workers(pool.pool_id))
    agent = deployment.cloud.start_agent(pool.token, pool.key, count, **options)
    deployment.wait_workers(pool.pool_id, before + count, seconds=seconds)
    return agent


def agent_of(task: str) -> psutil.Process:
    """The agent in a Fargate task, found by where it asks for its task's metadata."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("ECS_CONTAINER_METADATA_URI_V4", "").endswith(f"/{task}"):
                return process
    raise AssertionError(f"no agent runs in task {task}")


def freeze(agent: AgentProcess) -> None:
    """SIGSTOP: the agent is there, and does nothing."""
    os.kill(agent.pid, signal.SIGSTOP)


def thaw(agent: AgentProcess) -> None:
    """SIGCONT."""
    os.kill(agent.pid, signal.SIGCONT)


def wait_for_pid(file: Path) -> int:
    """The process id that a command has written to the file."""
    wait_until(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


def wait_for_end(pid: int) -> None:
    """Wait until there is no such process."""
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
