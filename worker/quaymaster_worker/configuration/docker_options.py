"""What only an agent with the executor `docker` says: what containers are made of, and what they see of its host."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from quaymaster_worker.configuration.reading import SHOWN, boolean, names, parts
from quaymaster_worker.errors import ConfigurationRefused

READ_ONLY, WRITING = "ro_", "wo_"
MOST_PIDS = 4096
LEAST_MEMORY = 6 << 20
"""The engine itself allows no less."""
NEVER_PASSED = frozenset({"QUAYMASTER_TOKEN", "QUAYMASTER_POOL_PRIVATE_KEY"})
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"(\d+)([bkmg]?)")
_CPUS = re.compile(r"\d{1,4}(\.\d{1,3})?")


class Pull(StrEnum):
    """When an image is pulled that is there already."""

    ALWAYS = "always"
    MISSING = "missing"


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host in a phase's container."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Sorted[T]:
    """What all phases get, and what only those that change nothing, or only the others, get as well."""

    always: T
    read_only: T
    writing: T

    def kinds(self, *, read_only: bool) -> tuple[T, T]:
        """What a phase of this kind gets: what all do, then its own."""
        return self.always, self.read_only if read_only else self.writing


@dataclass(frozen=True, kw_only=True)
class DockerOptions:
    """How containers are made. Sizes in bytes; `cpus` in processors; None: as the engine has it."""

    engine: str | None = None
    config_dir: Path | None = None
    passed: Sorted[Mapping[str, str]] = field(
        default_factory=lambda: Sorted[Mapping[str, str]](always={}, read_only={}, writing={})
    )
    mounts: Sorted[Sequence[Mount]] = field(
        default_factory=lambda: Sorted[Sequence[Mount]](always=(), read_only=(), writing=())
    )
    network: str = "bridge"
    runtime: str | None = None
    memory: int | None = None
    cpus: float | None = None
    pids: int = MOST_PIDS
    read_only_root: bool = False
    pull: Pull | None = None
    default_image: str | None = None
    default_ansible_image: str | None = None

    def environment(self, *, read_only: bool) -> dict[str, str]:
        """What a phase sees of the agent's own environment."""
        always, own = self.passed.kinds(read_only=read_only)
        return {**always, **own}

    def mounts_of(self, *, read_only: bool) -> list[Mount]:
        """What a phase sees of the host's files."""
        always, own = self.mounts.kinds(read_only=read_only)
        return [*always, *own]


def read_docker_options(environ: Mapping[str, str], state_dir: Path) -> DockerOptions:
    """Raises ConfigurationRefused."""
    engine = environ.get("DOCKER_HOST") or None
    closed = [state_dir, _socket(engine)]
    return DockerOptions(
        engine=engine,
        config_dir=_config_dir(environ),
        passed=_passed(environ),
        mounts=Sorted(
            always=_mounts(environ, "QUAYMASTER_WORKER_EXTRA_MOUNTS", closed),
            read_only=_mounts(environ, "QUAYMASTER_WORKER_RO_EXTRA_MOUNTS", closed),
            writing=_mounts(environ, "QUAYMASTER_WORKER_WO_EXTRA_MOUNTS", closed),
        ),
        network=environ.get("QUAYMASTER_WORKER_NETWORK") or "bridge",
        runtime=environ.get("QUAYMASTER_WORKER_RUNTIME") or None,
        memory=_memory(environ),
        cpus=_cpus(environ),
        pids=_pids(environ),
        read_only_root=boolean(environ, "QUAYMASTER_WORKER_READ_ONLY_ROOT"),
        pull=_pull(environ),
        default_image=environ.get("QUAYMASTER_DEFAULT_RUNNER_IMAGE") or None,
        default_ansible_image=environ.get("QUAYMASTER_DEFAULT_ANSIBLE_RUNNER_IMAGE") or None,
    )


def _config_dir(environ: Mapping[str, str]) -> Path | None:
    name = "QUAYMASTER_DOCKER_CONFIG_DIR"
    text = environ.get(name)
    if not text:
        return None
    if not (Path(text) / "config.json").is_file():
        raise ConfigurationRefused(name, repr(text), "a folder with the config.json that `docker login` writes")
    return Path(text)


def _passed(environ: Mapping[str, str]) -> Sorted[Mapping[str, str]]:
    """A name that is not set is left out: hosts of one pool need not all have it."""
    name = "QUAYMASTER_WHITELIST_ENVS"
    found: dict[str, dict[str, str]] = {"": {}, READ_ONLY: {}, WRITING: {}}
    for part in names(environ, name, ("", READ_ONLY, WRITING)):
        prefix = next((one for one in (READ_ONLY, WRITING) if part.startswith(one)), "")
        plain = part.removeprefix(prefix)
        if plain in NEVER_PASSED:
            raise ConfigurationRefused(name, repr(part), "anything but the agent's own credentials")
        if plain in environ:
            found[prefix][plain] = environ[plain]
    return Sorted(always=found[""], read_only=found[READ_ONLY], writing=found[WRITING])


def _mounts(environ: Mapping[str, str], name: str, closed: Sequence[Path | None]) -> tuple[Mount, ...]:
    mounts: list[Mount] = []
    for part in parts(environ, name):
        source, colon, rest = part.partition(":")
        target, second, mode = rest.partition(":")
        if not (colon and source.startswith("/") and target.startswith("/")) or (second and mode not in {"ro", "rw"}):
            allowed = "/host/path:/container/path, perhaps with :ro, with commas between"
            raise ConfigurationRefused(name, repr(part[:SHOWN]), allowed)
        if not Path(source).exists():
            raise ConfigurationRefused(name, f"{source!r}, which is not there", "files and folders of this host")
        if shown := next((one for one in closed if one and _shows(source, one)), None):
            raise ConfigurationRefused(name, repr(part[:SHOWN]), f"nothing that shows {shown} to a phase")
        mounts.append(Mount(source, target, mode == "ro"))
    return tuple(mounts)


def _shows(source: str, closed: Path) -> bool:
    real, held = Path(source).resolve(), closed.resolve()
    return real == held or real in held.parents


def _socket(engine: str | None) -> Path | None:
    """The engine's socket on this host: whoever reaches it is root here."""
    if engine is None:
        return Path("/var/run/docker.sock")
    return Path(engine.removeprefix("unix://")) if engine.startswith("unix://") else None


def _memory(environ: Mapping[str, str]) -> int | None:
    name = "QUAYMASTER_WORKER_MEMORY"
    text = environ.get(name)
    if not text:
        return None
    found = _SIZE.fullmatch(text.lower())
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if size < LEAST_MEMORY:
        raise ConfigurationRefused(name, repr(text[:SHOWN]), "a size of 6m or more, like 512m or 2g")
    return size


def _cpus(environ: Mapping[str, str]) -> float | None:
    name = "QUAYMASTER_WORKER_CPUS"
    text = environ.get(name)
    if not text:
        return None
    if not _CPUS.fullmatch(text) or float(text) < 0.01:
        raise ConfigurationRefused(name, repr(text[:SHOWN]), "a number of processors, like 2 or 0.5")
    return float(text)


def _pids(environ: Mapping[str, str]) -> int:
    name = "QUAYMASTER_WORKER_PIDS"
    text = environ.get(name) or str(MOST_PIDS)
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 22:
        raise ConfigurationRefused(name, repr(text[:SHOWN]), "a number of processes")
    return int(text)


def _pull(environ: Mapping[str, str]) -> Pull | None:
    name = "QUAYMASTER_WORKER_IMAGE_PULL"
    text = environ.get(name)
    if not text:
        return None
    if text not in {*Pull}:
        raise ConfigurationRefused(name, repr(text[:SHOWN]), " or ".join(Pull))
    return Pull(text)
