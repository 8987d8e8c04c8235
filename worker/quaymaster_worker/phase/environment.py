"""What a phase's command sees of the world: a few plain variables, the request's own, and who it is."""

from collections.abc import Mapping

from quaymaster.domain.messages import Assign, PhaseOrder

from quaymaster_worker.configuration.docker_options import NEVER_PASSED
from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.executor import Places
from quaymaster_worker.phase.outputs import VARIABLE
from quaymaster_worker.processes.marks import ATTEMPT, RUN

READ_ONLY_TYPES = frozenset({"proposed", "drift"})
"""Types of runs that change nothing, as requests name them."""


def is_read_only(assign: Assign, phase: PhaseOrder) -> bool:
    """Whether a phase changes nothing: it says so, or its run's type does."""
    return phase.read_only or assign.type in READ_ONLY_TYPES


def phase_environment(
    assign: Assign,
    phase: PhaseOrder,
    places: Places,
    user: RunUser | None,
    *,
    passed: Mapping[str, str],
    task_role: Mapping[str, str],
) -> Mapping[str, str]:
    """The environment of a phase's commands.

    Nothing of the agent's own environment is in it but what the executor has `passed`, and in an ECS task the way to
    the task's role.
    """
    plain = {**passed, "HOME": places.home, "TMPDIR": places.temporary}
    if user:
        plain |= {"USER": user.name, "LOGNAME": user.name}
    wanted = {**assign.environment, **phase.environment}
    requested = {name: value for name, value in wanted.items() if name not in NEVER_PASSED}
    who = {
        RUN: assign.run,
        ATTEMPT: str(assign.attempt),
        "QUAYMASTER_TYPE": assign.type,
        "QUAYMASTER_PHASE": phase.name,
        **({"QUAYMASTER_READ_ONLY": "true"} if is_read_only(assign, phase) else {}),
        **{f"QUAYMASTER_CONFIRMED_{name}": value for name, value in assign.metadata.items()},
        VARIABLE: places.outputs,
        **({"QUAYMASTER_STACK": assign.stack} if assign.stack else {}),
    }
    return plain | dict(task_role) | requested | who
