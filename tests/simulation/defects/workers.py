"""What the table says of workers is wrong, or too early."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from quaymaster.dispatcher import release, settle
from quaymaster.dispatcher.reaper import reap_run, sweep
from quaymaster.dispatcher.workers import finish, presence, register, worker_events
from quaymaster.domain import deadlines
from quaymaster.domain.states import Reason
from quaymaster.domain.worker import Worker, WorkerState, asked

from tests.simulation.defects.mutation import Patch, mutation, never_due, nothing
from tests.simulation.violation import Invariant as I


@mutation(I.BUSY_UNTIL_LET_GO, I.ONE_HOLDER, I.TICKET_IF_READY)
def registered_turns_busy_into_idle(patch: Patch) -> None:
    patch.setattr(register, "REAL", {WorkerState.IDLE, WorkerState.LEAVING})


@mutation(I.NO_END_WHILE_IT_ACTS)
def a_lost_connection_ends_the_run_at_once(patch: Patch) -> None:
    """Presence decides, instead of asking."""

    def disconnected(ports: Any, pools: Any, sender: Any) -> None:
        worker = ports.store.worker(sender.pool.id, sender.worker_id)
        if worker and worker.state is WorkerState.BUSY:
            loss = settle.Loss(reason=Reason.WORKER_LOST, by="presence", note="disconnected")
            due_at = ports.clock() + timedelta(seconds=15)
            how = release.Release(loss=loss, after=lambda found: asked(found, "disconnected", due_at))
            release.release(ports, pools, sender.pool.id, sender.worker_id, how)

    patch.setattr(worker_events, "disconnected", disconnected)


@mutation(I.OFFERED_AGAIN)
def nobody_asks_a_silent_worker_whether_it_is_back(patch: Patch) -> None:
    for module in (presence, sweep, finish):
        patch.setattr(module, "send_who", nothing)


@mutation(I.ALL_ENDS, I.OFFERED_AGAIN)
def an_offer_that_nobody_answers_stands_for_ever(patch: Patch) -> None:
    patch.setattr(sweep, "_offers", nothing)
    patch.setattr(deadlines, "prepare_deadline", never_due)


@mutation(I.DEADLINE)
def a_worker_that_is_asked_has_no_deadline(patch: Patch) -> None:

    def undated(worker: Worker, note: str, due_at: datetime) -> Worker:
        return replace(asked(worker, note, due_at), due_at=None)

    for module in (presence, reap_run, finish):
        patch.setattr(module, "asked", undated)
