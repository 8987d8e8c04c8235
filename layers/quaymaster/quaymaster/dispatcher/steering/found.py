"""The run that somebody steers, and the answer to one who comes too late or too early."""

from quaymaster.domain.run import Run
from quaymaster.errors import Conflict, NotFound
from quaymaster.ports import Store


def steered(store: Store, run_id: str) -> Run:
    """The run as it is now. Raises NotFound."""
    run = store.run(run_id)
    if not run:
        raise NotFound("run", run_id)
    return run


def conflict(run: Run, allowed: str) -> Conflict:
    """That this cannot be done to the run where it stands."""
    stands: str = run.state
    if run.reason:
        stands += f" ({run.reason})"
    if run.ending:
        stands += f", and being ended as {run.ending.reason} by {run.ending.by}"
    return Conflict(f"run {run.id}", stands, allowed)
