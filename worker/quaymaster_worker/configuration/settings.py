"""The agent's settings, read from the environment once, at the start, and refused loudly when they are wrong."""

import os
import pwd
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from quaymaster.domain.messages import Executor, PoolToken

from quaymaster_worker.configuration.docker_options import DockerOptions, read_docker_options
from quaymaster_worker.configuration.options import OPTIONS
from quaymaster_worker.configuration.reading import SHOWN, boolean, duration, names, secret
from quaymaster_worker.configuration.token import decode_key, decode_token
from quaymaster_worker.configuration.variables import Variables, read_variables
from quaymaster_worker.errors import ConfigurationRefused

METADATA_PREFIX = "QUAYMASTER_METADATA_"
MOST_METADATA = 50
LONGEST_METADATA = 256
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
CREDENTIALS = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)
# No distribution gives these to anybody: systemd's "Users, Groups, UIDs and GIDs on systemd Systems".
DEFAULT_UIDS = "60706-61183"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REGION = ("AWS_REGION", "AWS_DEFAULT_REGION")
_UNFIT = re.compile("[\ud800-\udfff]")
_NOTHING = frozenset({"", "null", "none", "undefined", "<nil>"})


@dataclass(frozen=True, kw_only=True)
class RunUser:
    """Who a phase runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the environment decides."""

    token: PoolToken
    private_key: bytes
    state_dir: Path
    metadata: Mapping[str, str]
    launch: str | None
    launcher_log_timeout: timedelta | None
    launcher_run_timeout: timedelta | None
    stop_deadline: timedelta | None
    give_up_after: timedelta
    run_user: RunUser | None
    """The one that was chosen, or an ECS task's; without one `run_uids` has one for each worker of a root agent."""
    run_uids: range | None
    ecs_metadata_uri: str | None
    task_role: Mapping[str, str]
    path: str
    lang: str
    debug: bool
    executor: Executor
    docker: DockerOptions
    mask: Sequence[str]
    """Variables whose values never appear in a log."""
    masked: Sequence[str]
    """What those of them hold that the agent itself has."""
    logs_on_stdout: bool
    sensitive_outputs: bool
    policy: Path | None
    notes: Sequence[str]
    """What whoever set the environment should know."""


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings. Raises ConfigurationRefused, with the variable's name, for the first one that is wrong."""
    variables = read_variables(environ)
    try:
        return _read(variables.own, _notes(variables))
    except ConfigurationRefused as error:
        raise ConfigurationRefused(variables.called(error.variable), error.found, error.allowed) from None


def _read(environ: Mapping[str, str], notes: list[str]) -> Settings:
    _check_text(environ)
    in_ecs = environ.get("ECS_CONTAINER_METADATA_URI_V4") or None
    token = _read_token(environ)
    executor = _executor(environ, token)
    state_dir = _state_dir(environ, in_ecs=in_ecs is not None)
    mask = names(environ, "QUAYMASTER_MASK_ENVS")
    if executor is Executor.PROCESS:
        idle = [option.variable for option in OPTIONS if option.docker_only and option.variable in environ]
        notes += [f"{variable} has no effect here: it is for the executor docker" for variable in idle]
    return Settings(
        token=token,
        private_key=_read_key(environ),
        state_dir=state_dir,
        metadata=_metadata(environ),
        launch=environ.get("QUAYMASTER_LAUNCH") or None,
        launcher_log_timeout=duration(environ, "QUAYMASTER_LAUNCHER_LOG_TIMEOUT")
        or duration(environ, "QUAYMASTER_LAUNCHER_LOGS_TIMEOUT"),  # as others spell it
        launcher_run_timeout=duration(environ, "QUAYMASTER_LAUNCHER_RUN_TIMEOUT"),
        stop_deadline=duration(environ, "QUAYMASTER_STOP_DEADLINE"),
        give_up_after=duration(environ, "QUAYMASTER_GIVE_UP_AFTER") or timedelta(minutes=2),
        run_user=_run_user(environ, in_ecs=in_ecs is not None),
        run_uids=_run_uids(environ) if os.geteuid() == 0 else None,
        ecs_metadata_uri=in_ecs,
        task_role=_task_role(environ) if in_ecs else {},
        path=_path(environ),
        lang=environ.get("LANG") or "C.UTF-8",
        debug=boolean(environ, "QUAYMASTER_DEBUG"),
        executor=executor,
        docker=read_docker_options(environ, state_dir) if executor is Executor.DOCKER else DockerOptions(),
        mask=mask,
        masked=[environ[name] for name in mask if environ.get(name)],
        logs_on_stdout=boolean(environ, "QUAYMASTER_RUN_LOGS_ON_STANDARD_OUTPUT_ENABLED"),
        sensitive_outputs=boolean(environ, "QUAYMASTER_SENSITIVE_OUTPUT_UPLOAD_ENABLED"),
        policy=_policy(environ),
        notes=notes,
    )


def _notes(variables: Variables) -> list[str]:
    adopted = [f"{other} is read as {own}" for own, other in variables.adopted.items()]
    unknown = [
        f"{variable} is no option of the agent" + (f"; perhaps {meant} was meant" if meant else "")
        for variable, meant in variables.unknown.items()
    ]
    return [*adopted, *unknown]


def _executor(environ: Mapping[str, str], token: PoolToken) -> Executor:
    name = "QUAYMASTER_EXECUTOR"
    text = environ.get(name) or token.executor
    if text not in {*Executor}:
        raise ConfigurationRefused(name, repr(text[:SHOWN]), " or ".join(Executor))
    return Executor(text)


def _policy(environ: Mapping[str, str]) -> Path | None:
    name = "QUAYMASTER_LAUNCHER_RUN_INITIALIZATION_POLICY"
    text = environ.get(name)
    if not text:
        return None
    if not Path(text).is_file():
        raise ConfigurationRefused(name, repr(text), "a file with a policy in Rego")
    return Path(text)


def _check_text(environ: Mapping[str, str]) -> None:
    """What is no UTF-8 comes as half surrogates, which no message could carry."""
    for name, value in environ.items():
        if name.startswith("QUAYMASTER_") and not (name + value).isprintable() and _UNFIT.search(name + value):
            raise ConfigurationRefused(
                name.encode(errors="replace").decode(), "bytes that are no UTF-8", "text in UTF-8"
            )


def _task_role(environ: Mapping[str, str]) -> dict[str, str]:
    """Where ECS keeps the credentials of the task's role, for phases to act as; nothing without a role.

    The agent itself asks AWS for nothing. What a host of its own has in these variables is the host's.
    """
    if not any(environ.get(name) for name in CREDENTIALS):
        return {}
    return {name: environ[name] for name in (*CREDENTIALS, *_REGION) if environ.get(name)}


def _read_token(environ: Mapping[str, str]) -> PoolToken:
    name, text = secret(environ, "QUAYMASTER_TOKEN")
    try:
        return decode_token(text)
    except ValueError as error:
        raise ConfigurationRefused(name, str(error), "the pool's token: JSON, or base64 of it") from None


def _read_key(environ: Mapping[str, str]) -> bytes:
    name, text = secret(environ, "QUAYMASTER_POOL_PRIVATE_KEY")
    try:
        return decode_key(text)
    except ValueError as error:
        raise ConfigurationRefused(name, str(error), "the pool's private key: PEM, or base64 of it") from None


def _metadata(environ: Mapping[str, str]) -> dict[str, str]:
    found = {k.removeprefix(METADATA_PREFIX): v for k, v in sorted(environ.items()) if k.startswith(METADATA_PREFIX)}
    for key, value in found.items():
        name = METADATA_PREFIX + key
        if not key:
            raise ConfigurationRefused(name, "no name after the prefix", f"{METADATA_PREFIX}<name>")
        if value.strip().lower() in _NOTHING:
            raise ConfigurationRefused(name, repr(value), "a value; leave the variable out when there is none")
        if len(value) > LONGEST_METADATA:
            raise ConfigurationRefused(name, f"{len(value)} characters", f"at most {LONGEST_METADATA}")
    if len(found) > MOST_METADATA:
        raise ConfigurationRefused(METADATA_PREFIX + "*", f"{len(found)} variables", f"at most {MOST_METADATA}")
    return found


def _state_dir(environ: Mapping[str, str], *, in_ecs: bool) -> Path:
    """Where the state file, spools and work folders lie; an ECS task has no next agent, so a fresh folder will do."""
    chosen = environ.get("QUAYMASTER_STATE_DIR")
    if chosen:
        return _made(Path(chosen), "QUAYMASTER_STATE_DIR")
    if in_ecs:
        return Path(tempfile.mkdtemp(prefix="quaymaster-"))
    if os.geteuid() == 0:
        return _made(Path("/var/lib/quaymaster"), "QUAYMASTER_STATE_DIR")
    home = environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return _made(Path(home) / "quaymaster", "QUAYMASTER_STATE_DIR")


def _made(path: Path, variable: str) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationRefused(variable, f"{path} ({error.strerror})", "a folder the agent may write to") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigurationRefused(variable, f"{path}, not writable", "a folder the agent may write to")
    return path.resolve()


def _run_user(environ: Mapping[str, str], *, in_ecs: bool) -> RunUser | None:
    """The user that was chosen for phases; in an ECS task, which has one worker, one that has a name."""
    name = environ.get("QUAYMASTER_RUN_USER") or ("nobody" if in_ecs and os.geteuid() == 0 else None)
    if not name:
        return None
    if os.geteuid() != 0:
        raise ConfigurationRefused("QUAYMASTER_RUN_USER", repr(name), "nothing, unless the agent runs as root")
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationRefused("QUAYMASTER_RUN_USER", repr(name), "a user of this host") from None
    return RunUser(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def _path(environ: Mapping[str, str]) -> str:
    """The PATH of phases: what the launcher names, then a system's usual folders; nothing of the agent's own."""
    name, text = "QUAYMASTER_LAUNCHER_PATH", environ.get("QUAYMASTER_LAUNCHER_PATH", "")
    folders = [folder for folder in text.split(":") if folder]
    if wrong := next((folder for folder in folders if not folder.startswith("/")), None):
        raise ConfigurationRefused(name, repr(wrong[:64]), "absolute paths of folders, with ':' between them")
    return ":".join([*folders, SYSTEM_PATH])


def _run_uids(environ: Mapping[str, str]) -> range:
    text = environ.get("QUAYMASTER_RUN_UIDS") or DEFAULT_UIDS
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) < 2**32 - 1):
        raise ConfigurationRefused("QUAYMASTER_RUN_UIDS", repr(text[:64]), f"FIRST-LAST, like {DEFAULT_UIDS}")
    return range(int(first), int(last) + 1)
