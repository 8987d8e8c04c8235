"""What the demo asks for, and how each run must end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from quaymaster.domain.pool import PoolKind
from quaymaster.domain.states import Reason, RunState

SETTINGS: Mapping[str, str | int] = {
    "accept_timeout": "5s",
    "lease": "5s",
    "stop_grace": "2s",
    "lost_slack": "2s",
    "backstop_slack": "5s",
    "warning": "2s",
}
"""Short spans for both pools, so that a demo about waiting does not wait for minutes."""


class Channel(StrEnum):
    """How a request is sent."""

    SQS = "SQS"
    MQTT = "MQTT"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """How a run must end, and what its log must say; `exit_code` is looked at when it is the reason."""

    state: RunState = RunState.FINISHED
    reason: Reason | None = None
    exit_code: int | None = None
    says: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One run of the demo. `name` is the request's id too; `what` says in a few words what there is to see."""

    name: str
    what: str
    expected: Expected
    command: tuple[str, ...]
    pool: PoolKind = PoolKind.PRIVATE
    channel: Channel = Channel.SQS
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    log_timeout: str | None = None
    run_timeout: str | None = None


def shell(script: str) -> tuple[str, ...]:
    """A command that runs a shell script."""
    return ("sh", "-c", script)


ORPHAN = Scene(
    name="orphan",
    what="works, until its agent is killed with SIGKILL",
    expected=Expected(state=RunState.FAILED, reason=Reason.WORKER_LOST, says="working, step 2"),
    command=shell('n=0; while true; do n=$((n+1)); echo "working, step $n"; sleep 0.5; done'),
)
FARGATE = Scene(
    name="fargate",
    what="nobody is idle in its pool: a task is started for it",
    expected=Expected(says="hello from a task"),
    command=shell("echo hello from a task; sleep 2; echo the task ends with its run"),
    pool=PoolKind.FARGATE,
)
HELLO = Scene(
    name="hello",
    what="prints a few lines and finishes",
    expected=Expected(says="3 of 3"),
    command=shell("for n in 1 2 3; do echo hello, line $n of 3; sleep 0.5; done"),
)
GREET = Scene(
    name="greet",
    what="came over MQTT, was answered on reply_to",
    expected=Expected(says="hello, MQTT"),
    command=shell("echo hello, $GUEST; sleep 1"),
    channel=Channel.MQTT,
    environment={"GUEST": "MQTT"},
)
BROKEN = Scene(
    name="broken",
    what="fails with exit code 3",
    expected=Expected(state=RunState.FAILED, reason=Reason.EXIT_CODE, exit_code=3, says="this cannot work"),
    command=shell("echo this cannot work; exit 3"),
)
SILENT = Scene(
    name="silent",
    what="says one line, then nothing: log timeout 4s",
    expected=Expected(state=RunState.FAILED, reason=Reason.LOG_TIMEOUT, says="my last words"),
    command=shell("echo my last words; sleep 600"),
    log_timeout="4s",
)
ENDLESS = Scene(
    name="endless",
    what="talks without end: run timeout 5s",
    expected=Expected(state=RunState.FAILED, reason=Reason.RUN_TIMEOUT, says="still talking"),
    command=shell("while true; do echo still talking; sleep 0.7; done"),
    run_timeout="5s",
)


def terraform_scene(program: str, environment: Mapping[str, str]) -> Scene:
    """A real plan with what is on PATH, `terraform` or `tofu`."""
    init = f'{program} init -input=false -no-color -backend-config="bucket=$STATE_BUCKET"'
    return Scene(
        name="plan",
        what=f"a real {program} plan, its state in the bucket",
        expected=Expected(says="Plan: 2 to add, 0 to change, 0 to destroy"),
        command=shell(f"{init} && {program} plan -input=false -no-color"),
        environment=environment,
    )
