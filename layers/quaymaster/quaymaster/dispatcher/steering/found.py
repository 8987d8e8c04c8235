"""The run that somebody steers, written against others, and the answer to one who comes too late or too early."""

from collections.abc import Callable

from quaymaster.domain.run import Run
from quaymaster.errors import Busy, Conflict, Lost, NotFound
from quaymaster.ports import Store

TRIES = 8


def steer(store: Store, run_id: str, once: Callable[[Run], Run]) -> Run:
    """What comes of doing it to the run as it is now; whenever others were faster, it is done anew.

    `once` raises Lost for that. Raises NotFound, Busy when others kept writing, and whatever else `once` does.
    """
    for _ in range(TRIES):
        run = steered(store, run_id)
        try:
            return once(run)
        except Lost:
            continue
    raise Busy(f"run {run_id}: others kept writing")


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
