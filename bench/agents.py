"""Memory of idle agents: of a process that is one worker, and of each worker more in the same process.

Of the agent as hosts install it, from its wheels: beside the project's tools, libraries of its own find more to load.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
from quaymaster_local.cloud import LocalCloud
from quaymaster_local.settings import load_settings

from bench.figures import Figures, measured
from tests.shared.cloudformation import REPOSITORY
from tests.shared.deployed.client import Deployment

ROUNDS = 3
FURTHER = 20


def measure_agents() -> Figures:
    """Resident megabytes (10^6 bytes), once all workers of the process are idle: the agent's, and what its warden adds.

    Of the warden only what it shares with nobody: the rest is resident anyway.
    """
    with ExitStack() as stack:
        program = stack.enter_context(installed_agent())
        cloud = stack.enter_context(LocalCloud(name="bench", settings=replace(load_settings(), agent_program=program)))
        deployment = stack.enter_context(closing(Deployment(cloud)))
        first = [_megabytes(cloud, deployment, 1) for _ in range(ROUNDS)]
        crowd = [_megabytes(cloud, deployment, 1 + FURTHER) for _ in range(ROUNDS)]
    further = [(more - one) / FURTHER for one, more in zip(first, crowd, strict=True)]
    return {"first_agent_mb": measured(first), "further_worker_mb": measured(further)}


@contextmanager
def installed_agent() -> Generator[Path]:
    """The agent's program in an environment of its own. Raises RuntimeError where its wheels were not made."""
    wheels, uv = REPOSITORY / "dist" / "wheels", shutil.which("uv") or str(REPOSITORY / ".tools" / "uv" / "bin" / "uv")
    if not (wheels / ".made").exists():
        raise RuntimeError("`make wheels` makes what is measured here")
    with tempfile.TemporaryDirectory(prefix="quaymaster-bench-") as folder:
        python = Path(folder) / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        offline = ["--no-index", "--find-links", str(wheels), "--compile-bytecode"]
        install = [uv, "pip", "install", "--quiet", "--python", str(python), *offline, "quaymaster-worker"]
        subprocess.run(install, check=True)
        yield python.with_name("quaymaster-agent")


def _megabytes(cloud: LocalCloud, deployment: Deployment, count: int) -> float:
    pool = deployment.create_pool()
    agent = cloud.start_agent(pool.token, pool.key, count)
    deployment.wait_workers(pool.pool_id, count)
    process = psutil.Process(agent.pid)
    found = process.memory_info().rss + sum(child.memory_full_info().uss for child in process.children(recursive=True))
    agent.stop()
    return found / 1e6
