"""`phase_finished`, `handed_back`, `goodbye`: a worker lets go of its run, and takes the next one if it stays."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from quaymaster.dispatcher.placing.announce import Assignment, announce, repeat
from quaymaster.dispatcher.placing.match import match
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.release import Release, held_run, release
from quaymaster.dispatcher.replies import tell_end
from quaymaster.dispatcher.settle import Loss, Settled, concluded, on_spot, settle
from quaymaster.dispatcher.workers.presence import ring, send_who
from quaymaster.dispatcher.workers.sender import Sender
from quaymaster.domain import deadlines, ids
from quaymaster.domain.messages import Done, Goodbye, HandedBack, PhaseFinished
from quaymaster.domain.placement import CONTENDED, apart, used_up
from quaymaster.domain.pool import Ticket, ticket_for
from quaymaster.domain.run import Run, Spec, claimed
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import Worker, WorkerState, asked, freed, gone, leaving, occupied
from quaymaster.errors import Busy, Lost, QuaymasterError
from quaymaster.ports import Create, Delete, Ports, Replace, Write

TRIES = 8
AWAY = frozenset({WorkerState.ASKED, WorkerState.GONE})

type Change = Callable[[Worker, Run, datetime], Settled]
type DoneEvent = Literal["phase_finished", "handed_back"]


@dataclass(frozen=True)
class Following:
    """The run that a worker takes as it lets go of another."""

    ticket: Ticket
    run: Run
    spec: Spec


def phase_finished(ports: Ports, pools: Pools, sender: Sender, message: PhaseFinished) -> None:
    """End the run with its worker's outcome; in the same transaction the worker takes the next ticket, or is IDLE."""

    def end(worker: Worker, run: Run, now: datetime) -> Settled:
        outcome = on_spot(message.outcome) if worker.taken_back else message.outcome
        return concluded(run, outcome, message.log, sender.pool.settings, now, "worker")

    run = _let_go(ports, pools, sender, message, end)
    if run and run.state is RunState.UNCONFIRMED:
        ports.log("run_unconfirmed", {"run": run.id, "attempt": run.attempt, "phase": run.phase})
    if run and run.is_final:
        ports.log("run_ended", {"run": run.id, "state": run.state, "reason": run.reason, "attempt": run.attempt})
        tell_end(ports, run)


def handed_back(ports: Ports, pools: Pools, sender: Sender, message: HandedBack) -> None:
    """Offer the run again: its worker gave it back before it began.

    A run that had its `go` is not offered again, unless it is retryable: its worker says that nothing began, and that
    is enough to end it, but not to run it twice. A worker that stays and hands back is one more offer that led to
    nothing, so that the two cannot go on for ever.
    """
    loss = Loss(
        reason=Reason.INTERRUPTED,
        by="worker",
        note=message.note or "handed back",
        losses=0,
        offers=0 if message.leaving else 1,
    )
    _let_go(ports, pools, sender, message, lambda _, run, now: settle(ports, run, sender.pool.settings, loss, now))


def goodbye(ports: Ports, pools: Pools, sender: Sender, message: Goodbye) -> None:
    """The worker is gone; a run that it still held is lost with it.

    Of a task that has done its runs nothing is written: its event, which tells its end for certain, is about to come.
    """
    expires_at = ports.clock() + deadlines.GONE_RETENTION
    note = message.note or "said goodbye"
    how = Release(
        loss=Loss(reason=Reason.WORKER_LOST, by="goodbye", note="its worker said goodbye"),
        after=lambda found: gone(found, note, expires_at),
        still=lambda found, _: found.session == message.session and not found.left and not _is_stopping(found),
    )
    release(ports, pools, sender.pool.id, sender.worker_id, how)
    ports.messenger.send(sender.pool.id, sender.worker_id, Done(session=message.session, event="goodbye"))
    match(ports, pools, sender.pool.id)


def _is_stopping(worker: Worker) -> bool:
    return worker.state is WorkerState.LEAVING and worker.launch is not None


def _let_go(
    ports: Ports, pools: Pools, sender: Sender, message: PhaseFinished | HandedBack, change: Change
) -> Run | None:
    """The run as it then stands, its worker answered; none if it was not this worker's to let go of."""
    for tries in range(TRIES):
        worker = ports.store.worker(sender.pool.id, sender.worker_id)
        run = held_run(ports, worker) if worker else None
        if not worker or not run or not _is_about(message, run, worker):
            with _answering(ports, sender, message, worker):
                _stale(ports, pools, sender, worker, message)
            return None
        now = ports.clock()
        settled = change(worker, run, now)
        done = 1 if settled.run.is_at_rest else 0
        leaves = message.leaving or used_up(sender.pool, worker, done)
        following = None if leaves or worker.disconnected_at else next_run(ports, sender, worker, contended=tries > 0)
        after, writes = _after(ports, sender, worker, settled.run, following, leaves=leaves, done=done)
        try:
            ports.store.commit(*settled.writes, *writes)
        except Lost:
            continue
        with _answering(ports, sender, message, after):
            _follow_up(ports, pools, sender, after, following)
            if not settled.run.is_final:
                match(ports, pools, sender.pool.id)
        return settled.run
    raise Busy(f"worker {sender.worker_id}: others kept writing")


def _is_about(message: PhaseFinished | HandedBack, run: Run, worker: Worker) -> bool:
    return run.id == message.run and run.held_by(worker.id, message.session, message.attempt)


def _after(
    ports: Ports, sender: Sender, worker: Worker, run: Run, following: Following | None, *, leaves: bool, done: int
) -> tuple[Worker, list[Write]]:
    """The worker once it has let go of its run, and the writes that make it so."""
    now = ports.clock()
    if following:
        busy = occupied(worker, following.run.id, following.run.attempt, now)
        busy = replace(busy, runs_done=worker.runs_done + done)
        return busy, [Delete(following.ticket), Replace(following.run), Replace(busy)]
    if leaves:
        left = leaving(worker, "takes no more runs", now + deadlines.LEAVE, done=done)
        if worker.launch and run.is_final and run.reason is Reason.INTERRUPTED:
            left = replace(left, interrupted=run.id)
        return left, [Replace(left)]
    if worker.disconnected_at:
        # It may be gone for good: it gets its marker when it answers.
        silent = asked(worker, "lost its connection", now + sender.pool.settings.accept_timeout)
        silent = replace(silent, runs_done=worker.runs_done + done)
        return silent, [Replace(silent)]
    idle, marker = freed(worker, ids.ulid(now, ports.random(10))[10:], now, done=done)
    return idle, [Replace(idle), Create(marker)]


def _follow_up(ports: Ports, pools: Pools, sender: Sender, worker: Worker, following: Following | None) -> None:
    if following:
        announce(ports, sender.pool, Assignment(run=following.run, spec=following.spec))
    elif worker.state is WorkerState.IDLE:
        match(ports, pools, sender.pool.id)
    elif worker.state is WorkerState.ASKED:
        ring(ports, worker.pool_id, worker.key, sender.pool.settings.accept_timeout)
    elif worker.launch:
        stop_task(ports, worker)


def stop_task(ports: Ports, worker: Worker) -> None:
    """Stop a leaving worker's task; the sweep tries again if this fails."""
    arn = task_of(ports, worker)
    if not arn:
        return
    try:
        ports.tasks.stop(arn, "quaymaster: the worker has done its last run")
    except QuaymasterError as error:
        ports.log("task_not_stopped", {"worker": worker.id, "note": str(error)[:120]})


def task_of(ports: Ports, worker: Worker) -> str | None:
    """The ARN of a worker's task, as ECS told it; never as the worker did."""
    if worker.task_arn:
        return worker.task_arn
    launch = ports.store.launch(worker.pool_id, worker.launch) if worker.launch else None
    return launch.task_of(ids.worker_name(worker.id)) if launch else None


def next_run(ports: Ports, sender: Sender, worker: Worker, *, contended: bool) -> Following | None:
    """The next run of the queue, claimed for this worker."""
    tickets = ports.store.tickets(sender.pool.id, CONTENDED)
    for ticket in apart(tickets, ports.random(32)) if contended else tickets:
        if following := _claimed_by(ports, sender, worker, ticket.run_id):
            return following
    return None


def bound_run(ports: Ports, sender: Sender, worker: Worker, run_id: str) -> Following | None:
    """The run that a worker's task was started for, claimed for it, if it waits still."""
    return _claimed_by(ports, sender, worker, run_id)


def _claimed_by(ports: Ports, sender: Sender, worker: Worker, run_id: str) -> Following | None:
    found = ports.store.run_and_spec(run_id)
    if not found or found[0].state is not RunState.READY:
        return None
    run, spec = found
    now = ports.clock()
    timeouts = deadlines.effective(spec, sender.pool.settings, worker, run.leg)
    due_at = deadlines.first_look(timeouts, sender.pool.settings, now)
    taken = claimed(run, worker.id, worker.session, now, timeouts, due_at, leg=spec.leg(run), spot=worker.spot)
    return Following(ticket_for(run), taken, spec)


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
        return
    match(ports, pools, sender.pool.id)
    if worker.state is WorkerState.LEAVING:
        stop_task(ports, worker)


@contextmanager
def _answering(
    ports: Ports, sender: Sender, message: PhaseFinished | HandedBack, worker: Worker | None
) -> Generator[None]:
    """Answer behind what is done inside, even where that fails: the report is in the table whatever becomes of it.

    The error then goes on, so that the message comes again and finds what is left.
    """
    try:
        yield
    except Exception:
        _answer(ports, sender, message, worker)
        raise
    _answer(ports, sender, message, worker)


def _answer(ports: Ports, sender: Sender, message: PhaseFinished | HandedBack, worker: Worker | None) -> None:
    """The report is in the table. A worker that was thought to be away is there after all, and is asked to register."""
    event: DoneEvent = "handed_back" if isinstance(message, HandedBack) else "phase_finished"
    answer = Done(session=message.session, event=event, run=message.run, attempt=message.attempt)
    ports.messenger.send(sender.pool.id, sender.worker_id, answer)
    if worker and worker.session == message.session and not worker.left and worker.state in AWAY:
        # Behind the answer: an agent that registers with an unanswered report still holds its run.
        send_who(ports, worker)
