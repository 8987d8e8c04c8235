"""Every option of the agent, by the name that follows `QUAYMASTER_`.

`docs/agent.md` has a row for each, with the test that shows it.
"""

from dataclasses import dataclass

OWN, OTHERS = "QUAYMASTER_", "SPACELIFT_"
METADATA = "METADATA_"


@dataclass(frozen=True)
class Option:
    """One option. `default` is what holds without it; `alone`: in place of this option another may be given."""

    name: str
    default: str
    docker_only: bool = False
    alone: str | None = None

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return OWN + self.name


OPTIONS = (
    Option("TOKEN", "exactly one of both is required", alone="TOKEN_FILE"),
    Option("TOKEN_FILE", "exactly one of both is required", alone="TOKEN"),
    Option("POOL_PRIVATE_KEY", "exactly one of both is required", alone="POOL_PRIVATE_KEY_FILE"),
    Option("POOL_PRIVATE_KEY_FILE", "exactly one of both is required", alone="POOL_PRIVATE_KEY"),
    Option("EXECUTOR", "the pool's, as its token says"),
    Option("STATE_DIR", "/var/lib/quaymaster as root, else $XDG_STATE_HOME/quaymaster; a fresh folder in an ECS task"),
    Option("RUN_USER", "none: RUN_UIDS"),
    Option("RUN_UIDS", "60706-61183"),
    Option("LAUNCHER_LOGS_TIMEOUT", "none: the run's and its pool's (7m)", alone="LAUNCHER_LOG_TIMEOUT"),
    Option("LAUNCHER_LOG_TIMEOUT", "none: the run's and its pool's (7m)", alone="LAUNCHER_LOGS_TIMEOUT"),
    Option("LAUNCHER_RUN_TIMEOUT", "none: the run's and its pool's (70m)"),
    Option("LAUNCHER_PATH", "none"),
    Option("LAUNCHER_RUN_INITIALIZATION_POLICY", "none: every run is allowed"),
    Option("STOP_DEADLINE", "none: the phase is ended at once, with the pool's stop grace"),
    Option("GIVE_UP_AFTER", "2m"),
    Option("LAUNCH", "none"),
    Option("DEBUG", "false"),
    Option("MASK_ENVS", "none"),
    Option("RUN_LOGS_ON_STANDARD_OUTPUT_ENABLED", "false"),
    Option("SENSITIVE_OUTPUT_UPLOAD_ENABLED", "false"),
    Option("DOCKER_CONFIG_DIR", "the engine's usual one: $DOCKER_CONFIG, else ~/.docker", docker_only=True),
    Option("WHITELIST_ENVS", "none", docker_only=True),
    Option("WORKER_EXTRA_MOUNTS", "none", docker_only=True),
    Option("WORKER_RO_EXTRA_MOUNTS", "none", docker_only=True),
    Option("WORKER_WO_EXTRA_MOUNTS", "none", docker_only=True),
    Option("WORKER_NETWORK", "bridge", docker_only=True),
    Option("WORKER_RUNTIME", "the engine's", docker_only=True),
    Option("WORKER_MEMORY", "no limit of its own", docker_only=True),
    Option("WORKER_CPUS", "no limit of its own", docker_only=True),
    Option("WORKER_PIDS", "4096", docker_only=True),
    Option("WORKER_READ_ONLY_ROOT", "false", docker_only=True),
    Option("WORKER_IMAGE_PULL", "always for images without a tag or tagged latest, else missing", docker_only=True),
    Option("DEFAULT_RUNNER_IMAGE", "none: the pool's, else the deployment's", docker_only=True),
    Option("DEFAULT_ANSIBLE_RUNNER_IMAGE", "none: the pool's, else the deployment's", docker_only=True),
)
NAMES = frozenset(option.name for option in OPTIONS)
