"""What makes old words harmless is left out."""

from typing import Any

from quaymaster.dispatcher.workers import begin, register, worker_events
from quaymaster.domain.run import Run
from quaymaster.domain.states import HELD
from quaymaster.domain.worker import WorkerState

from tests.simulation.defects.mutation import Patch, mutation
from tests.simulation.violation import Invariant as I


@mutation(I.FENCE)
def the_attempt_is_no_fence(patch: Patch) -> None:
    """Whoever holds the run may speak for any attempt of it."""

    def held_by(self: Run, worker: str, session: str, attempt: int) -> bool:
        return self.state in HELD and (self.worker, self.session) == (worker, session)

    patch.setattr(Run, "held_by", held_by)


@mutation(I.FENCE, I.WRITTEN_BEFORE_TOLD)
def the_holder_is_no_fence(patch: Patch) -> None:
    """Any worker may begin a run whose attempt it knows."""

    def held(ports: Any, sender: Any, session: str, run_id: str, attempt: int) -> Run | None:
        run = ports.store.run(run_id)
        return run if run and run.state in HELD and run.attempt == attempt else None

    patch.setattr(begin, "_held", held)


@mutation(I.NEWEST_SESSION, I.FENCE)
def sessions_are_forgotten(patch: Patch) -> None:
    """An older session registers like a newer one."""
    shipped = register.registered

    def registered(ports: Any, pools: Any, sender: Any, message: Any) -> None:
        worker = ports.store.worker(sender.pool.id, sender.worker_id)
        if worker and message.session < worker.session and worker.state is WorkerState.GONE:
            register._take_in(ports, sender, worker, None, message, contended=False)  # pyright: ignore[reportPrivateUsage]
        else:
            shipped(ports, pools, sender, message)

    patch.setattr(worker_events, "registered", registered)
