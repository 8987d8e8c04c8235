"""What an agent runs its runs with, by its settings: an executor, and a policy that says which it refuses."""

import time
from typing import TYPE_CHECKING

from quaymaster.domain.messages import Executor as Kind
from quaymaster_policy.errors import PolicyRefused

from quaymaster_worker.configuration.settings import Settings
from quaymaster_worker.errors import ConfigurationRefused
from quaymaster_worker.processes.process_executor import ProcessExecutor

if TYPE_CHECKING:
    from quaymaster_policy.policy import Policy

    from quaymaster_worker.containers.docker_executor import DockerExecutor


def make_executor(settings: Settings, agent: str) -> "ProcessExecutor | DockerExecutor":
    """The executor of an agent, by its state file's name."""
    if settings.executor is Kind.DOCKER:
        # Here, because agents that run processes are smaller without.
        from quaymaster_worker.containers.docker_executor import DockerExecutor

        return DockerExecutor(settings.docker, settings.state_dir, agent, time.monotonic)
    return ProcessExecutor(
        {"PATH": settings.path, "LANG": settings.lang}, in_task=settings.ecs_metadata_uri is not None
    )


def read_run_policy(settings: Settings) -> "Policy | None":
    """The policy that is configured, whole and in order. Raises ConfigurationRefused with file, line and column."""
    if not settings.policy:
        return None
    from quaymaster_policy.policy import read_policy

    try:
        return read_policy(settings.policy)
    except (PolicyRefused, OSError) as error:
        variable = "QUAYMASTER_LAUNCHER_RUN_INITIALIZATION_POLICY"
        raise ConfigurationRefused(variable, str(error), "a policy in Rego without a fault") from None
