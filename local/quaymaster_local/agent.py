"""Agents of private pools, started on this machine as on a host of one's own."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from quaymaster_local.ecs.tasks.containers import CONTAINER
from quaymaster_local.settings import child_environment, python

STOP_SECONDS = 30


@dataclass(kw_only=True)
class AgentProcess:
    """A running agent. `pid` is its own; `log` is the file of its output; `state_dir` is what a restart needs."""

    process: subprocess.Popen[bytes]
    pid: int
    log: Path
    state_dir: Path
    left: list[psutil.Process] = field(default_factory=list[psutil.Process])

    def running(self) -> bool:
        """Whether the agent still runs."""
        return self.process.poll() is None

    def output(self) -> str:
        """What the agent has written so far."""
        return self.log.read_text(errors="replace")

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, as systemd would; returns the exit code. Raises subprocess.TimeoutExpired."""
        self.process.terminate()
        return self.process.wait(timeout_seconds)

    def kill(self) -> None:
        """SIGKILL to the agent alone: what it started lives on, as on a host where an agent crashed."""
        with contextlib.suppress(psutil.NoSuchProcess):
            agent = psutil.Process(self.pid)
            self.left += agent.children(recursive=True)
            agent.kill()
        self.process.wait(STOP_SECONDS)

    def wait(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """The exit code, once it has ended by itself. Raises subprocess.TimeoutExpired."""
        return self.process.wait(timeout_seconds)

    def close(self) -> None:
        """End it and everything it started, also what a killed agent left."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(STOP_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
        for one in self.left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


@dataclass(frozen=True, kw_only=True)
class AgentCommand:
    """How an agent is started: `environ` is added to a scrubbed environment."""

    agent: Path
    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    state_dir: Path
    log: Path


def start_agent(command: AgentCommand) -> AgentProcess:
    """Start an agent that ends with this process at the latest."""
    inherited = child_environment()
    environ = {
        "PATH": inherited.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "HOME": str(command.state_dir),
        **command.environ,
    }
    with command.log.open("ab") as log:
        process = subprocess.Popen(
            [str(python()), "-P", str(CONTAINER), "--leave-orphans", str(command.agent), *command.arguments],
            env=environ,
            cwd=command.state_dir,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdout is not None
    pid = process.stdout.readline()
    return AgentProcess(process=process, pid=int(pid or process.pid), log=command.log, state_dir=command.state_dir)
