"""`phase_finished`, `handed_back`, `goodbye`: a worker lets go of its run, and takes the next one if it stays."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from longshore.dispatcher.announce import Assignment, announce, repeat
from longshore.dispatcher.match import match
from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.release import Release, held_run, release
from longshore.dispatcher.sender import Sender
from longshore.dispatcher.settle import Loss
from longshore.domain import deadlines, ids
from longshore.domain.messages import Done, Goodbye, HandedBack, PhaseFinished
from longshore.domain.pool import PoolKind, Ticket, ticket_for
from longshore.domain.run import Run, Spec, claimed, finished, released
from longshore.domain.states import Reason, RunState
from longshore.domain.worker import Worker, WorkerState, freed, gone, leaving, occupied
from longshore.errors import Busy, LongshoreError, Lost
from longshore.ports import Create, Delete, Ports, Replace, Write

TRIES = 8
NEXT_TICKETS = 4

type Change = Callable[[Run, datetime], Run]
type DoneEvent = Literal["phase_finished", "handed_back", "goodbye"]


@dataclass(frozen=True)
class Following:
    """The run that a worker takes as it lets go of another."""

    ticket: Ticket
    run: Run
    spec: Spec


def phase_finished(ports: Ports, pools: Pools, sender: Sender, message: PhaseFinished) -> None:
    """End the run with its worker's outcome; in the same transaction the worker takes the next ticket, or is IDLE."""

    def end(run: Run, now: datetime) -> Run:
        ended = finished(run, message.outcome, message.log, now, "worker")
        return replace(ended, expires_at=now + deadlines.RETENTION)

    run = _let_go(ports, pools, sender, message, leaves=message.leaving, change=end)
    _done(ports, sender, message, "phase_finished")
    if run:
        ports.log("run_ended", {"run": run.id, "state": run.state, "reason": run.reason, "attempt": run.attempt})


def handed_back(ports: Ports, pools: Pools, sender: Sender, message: HandedBack) -> None:
    """Offer the run again: its worker gave it back before it began."""

    def back(run: Run, now: datetime) -> Run:
        if run.state is not RunState.PREPARING:
            # It says that it never began, but it had its `go`: its word is not enough to run it twice.
            return replace(run)
        return released(run, now, "worker", message.note or "handed back")

    _let_go(ports, pools, sender, message, leaves=message.leaving, change=back)
    _done(ports, sender, message, "handed_back")
    match(ports, pools, sender.pool.id)


def goodbye(ports: Ports, pools: Pools, sender: Sender, message: Goodbye) -> None:
    """The worker is gone; a run that it still held is lost with it."""
    expires_at = ports.clock() + deadlines.GONE_RETENTION
    note = message.note or "said goodbye"
    how = Release(
        loss=Loss(reason=Reason.WORKER_LOST, by="goodbye", note="its worker said goodbye"),
        after=lambda found: gone(found, note, expires_at),
        still=lambda found, _: found.session == message.session and found.state is not WorkerState.GONE,
    )
    release(ports, pools, sender.pool.id, sender.worker_id, how)
    ports.messenger.send(sender.pool.id, sender.worker_id, Done(session=message.session, event="goodbye"))


def _let_go(
    ports: Ports,
    pools: Pools,
    sender: Sender,
    message: PhaseFinished | HandedBack,
    *,
    leaves: bool,
    change: Change,
) -> Run | None:
    for _ in range(TRIES):
        worker = ports.store.worker(sender.pool.id, sender.worker_id)
        run = held_run(ports, worker) if worker else None
        if not worker or not run or not run.held_by(sender.worker_id, message.session, message.attempt):
            _stale(ports, pools, sender, worker, message)
            return None
        if run.id != message.run:
            _stale(ports, pools, sender, worker, message)
            return None
        now = ports.clock()
        ended = change(run, now)
        if ended == run:
            return None
        stays = not leaves and not _used_up(sender, worker)
        following = _next(ports, sender, worker) if stays else None
        writes, free = _writes(ports, worker, ended, following, stays=stays, now=now)
        try:
            ports.store.commit(*writes)
        except Lost:
            continue
        _after(ports, pools, sender, free, following)
        return ended
    raise Busy(f"worker {sender.worker_id}: others kept writing")


def _writes(
    ports: Ports,
    worker: Worker,
    ended: Run,
    following: Following | None,
    *,
    stays: bool,
    now: datetime,
) -> tuple[list[Write], Worker]:
    writes: list[Write] = [Replace(ended)]
    if ended.state is RunState.READY:
        writes.append(Create(ticket_for(ended)))
    if following:
        next_worker = replace(
            occupied(worker, following.run.id, following.run.attempt, now), runs_done=worker.runs_done + 1
        )
        return [*writes, Delete(following.ticket), Replace(following.run), Replace(next_worker)], next_worker
    if stays:
        idle, marker = freed(worker, ids.ulid(now, ports.random(10))[10:], now, done=1)
        return [*writes, Replace(idle), Create(marker)], idle
    left = leaving(worker, "finished its last run", done=1)
    return [*writes, Replace(left)], left


def _after(ports: Ports, pools: Pools, sender: Sender, worker: Worker, following: Following | None) -> None:
    if following:
        announce(ports, sender.pool, Assignment(run=following.run, spec=following.spec))
    elif worker.state is WorkerState.IDLE:
        match(ports, pools, sender.pool.id)
    elif worker.task_arn or worker.launch:
        stop_task(ports, worker)


def stop_task(ports: Ports, worker: Worker) -> None:
    """Stop a leaving worker's task; the sweep tries again if this fails."""
    arn = task_of(ports, worker)
    if not arn:
        return
    try:
        ports.tasks.stop(arn, "longshore: the worker has done its last run")
    except LongshoreError as error:
        ports.log("task_not_stopped", {"worker": worker.id, "note": str(error)[:120]})


def task_of(ports: Ports, worker: Worker) -> str | None:
    """The ARN of a worker's task, as ECS told it; never as the worker did."""
    if worker.task_arn:
        return worker.task_arn
    launch = ports.store.launch(worker.pool_id, worker.launch) if worker.launch else None
    name = worker.id.rpartition(".")[2]
    return next((arn for arn in launch.tasks if ids.task_id(arn) == name), None) if launch else None


def _used_up(sender: Sender, worker: Worker) -> bool:
    pool = sender.pool
    return pool.kind_of is PoolKind.FARGATE and worker.runs_done + 1 >= pool.settings.runs_per_worker


def _next(ports: Ports, sender: Sender, worker: Worker) -> Following | None:
    """The next run of the queue, claimed for this worker."""
    for ticket in ports.store.tickets(sender.pool.id, NEXT_TICKETS):
        found = ports.store.run_and_spec(ticket.run_id)
        if not found or found[0].state is not RunState.READY:
            continue
        run, spec = found
        now = ports.clock()
        timeouts = deadlines.effective(spec, sender.pool.settings, worker)
        due_at = deadlines.first_look(timeouts, sender.pool.settings, now)
        taken = claimed(run, worker.id, worker.session, now, timeouts, due_at)
        return Following(ticket, taken, spec)
    return None


def _stale(
    ports: Ports, pools: Pools, sender: Sender, worker: Worker | None, message: PhaseFinished | HandedBack
) -> None:
    """An end that is known already, or not the worker's to tell: changes nothing, but heals what its first left."""
    ports.log("event_ignored", {"event": "let_go", "worker": sender.worker_id, "run": message.run})
    if not worker or worker.session != message.session:
        return
    run = held_run(ports, worker)
    if run and run.state is RunState.PREPARING:
        repeat(ports, sender.pool, run)
    elif worker.state is WorkerState.IDLE:
        match(ports, pools, sender.pool.id)
    elif worker.state is WorkerState.LEAVING:
        stop_task(ports, worker)


def _done(ports: Ports, sender: Sender, message: PhaseFinished | HandedBack, event: DoneEvent) -> None:
    answer = Done(session=message.session, event=event, run=message.run, attempt=message.attempt)
    ports.messenger.send(sender.pool.id, sender.worker_id, answer)
