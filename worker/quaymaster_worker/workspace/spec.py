"""A command and an environment that were too large for a message: fetched, and checked against what execve takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
from pydantic import BaseModel, Field, ValidationError
from quaymaster.domain.execve import MAX_STRING_BYTES, MAX_TOTAL_BYTES, too_long, total_bytes
from quaymaster.domain.fields import EnvironmentName
from quaymaster.domain.messages import Assign, WorkspaceGrant
from quaymaster.domain.states import Reason
from quaymaster.domain.workspace_rules import Bounds

from quaymaster_worker.errors import PreparationFailed
from quaymaster_worker.workspace.unpacking import fetch

BOUNDS = Bounds(packed_bytes=MAX_TOTAL_BYTES)


class Contents(BaseModel):
    """What of a phase may be large."""

    command: list[str] = Field(min_length=1)
    environment: dict[EnvironmentName, str]
    before: list[list[str]] = []
    after: list[list[str]] = []


class Spec(BaseModel):
    """The object as the control plane wrote it; `phases` are all of the run's."""

    command: list[str]
    environment: dict[EnvironmentName, str]
    phases: list[Contents] = []
    on_end: list[list[str]] = []


async def with_spec(client: httpx.AsyncClient, assign: Assign, folder: Path) -> Assign:
    """The assignment with the command and the environment that its grant leads to. Raises PreparationFailed."""
    if assign.spec is None:
        return assign
    found = await _fetch(client, assign.spec, folder / "spec.json")
    own = found.phases[assign.first : assign.first + len(assign.phases)]
    if len(own) != len(assign.phases) or not (own or found.command):
        raise PreparationFailed(Reason.WORKSPACE, "the command in the bucket is not as it was written")
    phases = [order.model_copy(update=dict(one)) for order, one in zip(assign.phases, own, strict=True)]
    whole = {"command": found.command, "environment": found.environment, "phases": phases, "on_end": found.on_end}
    return assign.model_copy(update={**whole, "spec": None})


async def _fetch(client: httpx.AsyncClient, grant: WorkspaceGrant, file: Path) -> Spec:
    await fetch(client, grant, file, BOUNDS, what="command")
    try:
        return Spec.model_validate_json(file.read_bytes())
    except ValidationError:
        raise PreparationFailed(Reason.WORKSPACE, "the command in the bucket is not as it was written") from None
    finally:
        file.unlink()


def check_fits(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises PreparationFailed for what the system cannot pass to a command, naming what is too long."""
    if long := too_long(command, environment):
        field, size = long
        note = f"{field} has {size} bytes; a command can be passed {MAX_STRING_BYTES} in one"
        raise PreparationFailed(Reason.WORKSPACE, note[:200])
    if (size := total_bytes(command, environment)) > MAX_TOTAL_BYTES:
        note = f"command and environment take {size} bytes; a command can be passed {MAX_TOTAL_BYTES}"
        raise PreparationFailed(Reason.WORKSPACE, note)
