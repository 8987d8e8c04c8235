"""What a phase's command sees of the world: a few plain variables, the request's own, and who it is."""

from collections.abc import Mapping

from quaymaster.domain.messages import Assign, PhaseOrder

from quaymaster_worker.phase.outputs import VARIABLE
from quaymaster_worker.processes.marks import ATTEMPT, RUN
from quaymaster_worker.settings import RunUser
from quaymaster_worker.workspace.folders import WorkFolder

FORBIDDEN = frozenset({"QUAYMASTER_TOKEN", "QUAYMASTER_POOL_PRIVATE_KEY"})
"""Never passed on, not even from a request: they are the agent's alone."""


def phase_environment(
    assign: Assign,
    phase: PhaseOrder,
    folder: WorkFolder,
    user: RunUser | None,
    *,
    path: str,
    lang: str,
    task_role: Mapping[str, str],
) -> Mapping[str, str]:
    """The environment of a phase's commands.

    Nothing of the agent's own environment is in it but LANG, and in an ECS task the way to the task's role.
    """
    plain = {"PATH": path, "LANG": lang, "HOME": str(folder.home), "TMPDIR": str(folder.temporary)}
    if user:
        plain |= {"USER": user.name, "LOGNAME": user.name}
    wanted = {**assign.environment, **phase.environment}
    requested = {name: value for name, value in wanted.items() if name not in FORBIDDEN}
    who = {
        RUN: assign.run,
        ATTEMPT: str(assign.attempt),
        "QUAYMASTER_TYPE": assign.type,
        "QUAYMASTER_PHASE": phase.name,
        **({"QUAYMASTER_READ_ONLY": "true"} if phase.read_only else {}),
        **{f"QUAYMASTER_CONFIRMED_{name}": value for name, value in assign.metadata.items()},
        VARIABLE: str(folder.outputs),
        **({"QUAYMASTER_STACK": assign.stack} if assign.stack else {}),
    }
    return plain | dict(task_role) | requested | who
