"""What the policy of a host is told about an attempt, and what it says."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quaymaster.domain.messages import Assign, ImageUsed, PhaseOrder
from quaymaster.domain.states import Reason

from quaymaster_worker.errors import PreparationFailed
from quaymaster_worker.phase.environment import is_read_only
from quaymaster_worker.protocol.state.held import Identity

if TYPE_CHECKING:
    from quaymaster_policy.policy import Policy


def document_of(
    assign: Assign,
    phases: Sequence[PhaseOrder],
    environment: Sequence[str],
    image: ImageUsed | None,
    identity: Identity,
) -> Mapping[str, Any]:
    """The input of a policy: of the environment only the names, of an image and a stack nothing where there is none."""
    told = [{"name": one.name, "command": list(one.command), "read_only": is_read_only(assign, one)} for one in phases]
    document: dict[str, Any] = {
        "run": {
            "id": assign.run,
            "attempt": assign.attempt,
            "type": assign.type,
            "tool": assign.tool,
            "read_only": all(one["read_only"] for one in told),
            "phases": told,
        },
        "environment": sorted(environment),
        "worker": {
            "id": identity.worker_id,
            "version": identity.agent_version,
            "executor": identity.executor,
            "metadata": dict(identity.metadata),
        },
        "metadata": dict(assign.metadata),
    }
    if image:
        document |= {"image": image.name, "image_from": image.rule}
    if assign.stack:
        document["stack"] = assign.stack
    return document


def check(policy: "Policy", document: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Raises PreparationFailed with what speaks against the run, which is said before."""
    if objections := policy.objections(document):
        say(f"denied: {'; '.join(objections)}")
        raise PreparationFailed(Reason.POLICY_DENIED, "; ".join(objections))
