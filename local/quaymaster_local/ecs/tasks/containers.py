"""Containers of tasks: agent processes with nothing of this process's environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quaymaster_local.ecs.tasks.task import Task
from quaymaster_local.processes.sessions import kill_group
from quaymaster_local.settings import REGION

CONTAINER = Path(__file__).with_name("container.py")


@dataclass(frozen=True, kw_only=True)
class Container:
    """A started container. `pid` is the agent's own."""

    process: subprocess.Popen[bytes]
    pid: int
    folder: Path

    def terminate(self) -> None:
        """SIGTERM to the agent."""
        if self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL to the agent and everything it started."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()

    def wait(self) -> int:
        """The exit code, once nothing of the container runs any more; its files are gone then."""
        code = self.process.wait()
        # A container.py that was itself killed could not clean up; what is left in its group ends here.
        kill_group(self.process.pid)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return code if code >= 0 else 128 - code


@dataclass(frozen=True, kw_only=True)
class ContainerHost:
    """Where containers run: `agent` stands for the image, `tasks` and `logs` are folders, `path` is their PATH."""

    agent: Path
    tasks: Path
    logs: Path
    path: str
    metadata_url: str

    def start(self, task: Task, environment: Mapping[str, str]) -> Container:
        """Start the task's container in a folder of its own; its output goes to a log named after the task."""
        folder = self.tasks / task.id
        temporary = folder / "tmp"
        temporary.mkdir(parents=True)
        # Phases may run under another user than the agent, as in an image.
        folder.chmod(0o755)
        temporary.chmod(0o1777)
        with (self.logs / f"{task.id}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", str(CONTAINER), str(self.agent), *task.command],
                env={**self._image_environment(task, folder), **environment},
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert process.stdout is not None
        pid = process.stdout.readline()
        return Container(process=process, pid=int(pid or process.pid), folder=folder)

    def _image_environment(self, task: Task, folder: Path) -> dict[str, str]:
        return {
            "PATH": self.path,
            "HOME": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "QUAYMASTER_STATE_DIR": str(folder / "state"),
            "ECS_CONTAINER_METADATA_URI_V4": f"{self.metadata_url}/v4/{task.id}",
            **self._credentials(task),
        }

    def _credentials(self, task: Task) -> dict[str, str]:
        """Where the task's role has its credentials. ECS names a path below 169.254.170.2; SDKs take loopback too."""
        if not task.definition.task_role_arn:
            return {}
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.metadata_url}/v2/credentials/{task.credentials_id}",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }
