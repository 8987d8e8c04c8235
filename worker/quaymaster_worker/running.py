"""Which executor an agent has: what its settings, or its pool's token, say."""

import time

from quaymaster.domain.messages import Executor as Kind

from quaymaster_worker.configuration.settings import Settings
from quaymaster_worker.containers.docker_executor import DockerExecutor
from quaymaster_worker.processes.process_executor import ProcessExecutor


def make_executor(settings: Settings, agent: str) -> ProcessExecutor | DockerExecutor:
    """The executor of an agent, by its state file's name."""
    if settings.executor is Kind.DOCKER:
        return DockerExecutor(settings.docker, settings.state_dir, agent, time.monotonic)
    return ProcessExecutor({"PATH": settings.path, "LANG": settings.lang})
