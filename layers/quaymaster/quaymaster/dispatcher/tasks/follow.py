"""Tasks that came to nothing: launches whose answer was never written, and tasks without a worker."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from quaymaster.dispatcher.apart import apart
from quaymaster.dispatcher.tasks.counting import Taken, account
from quaymaster.dispatcher.tasks.launch import call
from quaymaster.domain import deadlines, ids
from quaymaster.domain.failure_table import LATE
from quaymaster.domain.pool import KEPT_MONTHS, Counters, Launch, Pool, followed
from quaymaster.domain.states import Reason
from quaymaster.domain.trouble import StartFailure, TroubleKind
from quaymaster.domain.worker import Worker, WorkerState
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Delete, Ports, Replace, Write, rewritten

NO_EVENT = StartFailure(
    kind=TroubleKind.PASSING, reason=Reason.START_FAILED, note="its task is gone, and no event said so"
)


def follow_launches(ports: Ports, pool: Pool, until: datetime) -> None:
    """The pool's launches that are due, as long as there is time; one that cannot be handled keeps none from others."""
    due = [found for found in ports.store.launches(pool.id) if found.due_at and found.due_at <= ports.clock()]

    def follow(launch: Launch) -> None:
        # Before ECS is asked: whatever becomes of that, the others are before it in the next sweep.
        launch = deadlines.pushed(launch, ports.clock())
        ports.store.commit(Replace(launch))
        follow_launch(ports, pool, launch)

    apart(ports, until, due, follow, lambda launch: ("launch_not_followed", {"launch": launch.id}))


def follow_launch(ports: Ports, pool: Pool, launch: Launch) -> None:
    """A due launch: its call is repeated while its answer is unknown, then its tasks are followed until all joined."""
    if not launch.answered:
        call(ports, pool, launch)
        return
    if launch.starting:
        _follow_starting(ports, launch)
    current = ports.store.launch(launch.pool_id, launch.id)
    now = ports.clock()
    if current and current.due_at and current.due_at == launch.due_at:
        due_at = now + pool.settings.start_timeout if current.starting else None
        ports.store.commit(*rewritten(current, followed(current, due_at)))


def _follow_starting(ports: Ports, launch: Launch) -> None:
    alive = set(ports.tasks.of_launch(launch))
    on_their_way = [arn for arn in launch.tasks if ids.task_id(arn) not in (*launch.joined, *launch.stopped)]
    late = _late(ports, launch, [arn for arn in on_their_way if arn in alive])
    if more := set(map(ids.task_id, late)).difference(launch.late):
        # From this write on no worker joins: one that read the launch before it loses, and is refused the next time.
        launch = replace(launch, version=launch.version + 1, late=(*launch.late, *sorted(more)))
        ports.store.commit(Replace(launch))
    for arn in on_their_way:
        if arn not in alive:
            _count_stopped(ports, launch, ids.task_id(arn))
        elif arn in late:
            ports.tasks.stop(arn, LATE)


def _late(ports: Ports, launch: Launch, waited_for: Sequence[str]) -> set[str]:
    """The tasks that will not become a worker any more: those that run and do not register, or do not come to run."""
    now = ports.clock()
    if now >= launch.called_at + deadlines.LATE_TASK:
        return set(waited_for)
    if now < launch.called_at + deadlines.LATE_WORKER or not waited_for:
        return set()
    since = ports.tasks.running_since(waited_for)
    return {arn for arn in waited_for if arn in since and now >= since[arn] + deadlines.LATE_WORKER}


def reconcile(ports: Ports, launches: Sequence[Launch], workers: Sequence[Worker], until: datetime) -> None:
    """Free the places of tasks whose worker is gone, or has left, although no event said that they have stopped.

    That of a gone one is stopped first, as that of a leaving one was; only a task that ECS says has stopped counts so.
    Those that joined are looked at, not those that the answer named: it may have been lost. `workers` must have been
    read after `launches`: a worker is there as soon as its launch says that it has joined.
    """
    by_task = {ids.worker_name(worker.id): worker for worker in workers}

    def judge(found: tuple[Launch, str]) -> None:
        launch, task = found
        worker = ids.worker_id(ports.namespace, launch.pool_id, task)
        _reconcile_task(ports, launch, task, by_task.get(task) or ports.store.worker(launch.pool_id, worker))

    joined = [(launch, task) for launch in launches for task in launch.joined if task not in launch.stopped]
    apart(ports, until, joined, judge, lambda found: ("task_not_reconciled", {"launch": found[0].id, "task": found[1]}))


def _reconcile_task(ports: Ports, launch: Launch, task: str, worker: Worker | None) -> None:
    if worker:
        since = _out_since(worker)
        if not since or ports.clock() - since < deadlines.SWEEP:
            return
    alive = next((arn for arn in ports.tasks.of_launch(launch) if ids.task_id(arn) == task), None)
    leaving = worker is not None and worker.state is WorkerState.LEAVING
    if alive and not leaving:
        ports.tasks.stop(alive, "quaymaster: its worker is gone")
    elif not alive:
        _count_stopped(ports, launch, task, *([Delete(worker)] if worker and leaving else []))


def recount(ports: Ports, counters: Counters, launches: Sequence[Launch]) -> None:
    """Correct the count of places, if it is wrong and nothing has moved since it was read, which was before `launches`.

    Whatever changes a launch's places moves the count in the same transaction, and its version with it.
    """
    held = sum(launch.places for launch in launches)
    if held == counters.workers_reserved and len(counters.months) <= KEPT_MONTHS:
        return
    try:
        ports.store.commit(Replace(counters.corrected(held)))
    except (Lost, Busy):
        return
    if held != counters.workers_reserved:
        ports.log("places_recounted", {"pool": counters.pool_id, "was": counters.workers_reserved, "held": held})


def _out_since(worker: Worker) -> datetime | None:
    """Since when its task has had no business to run; None of one that may still be at work."""
    match worker.state:
        case WorkerState.GONE:
            return gone_at(worker)
        case WorkerState.LEAVING:
            return worker.due_at - deadlines.LEAVE if worker.due_at else worker.seen_at
        case _:
            return None


def gone_at(worker: Worker) -> datetime:
    """Since when a GONE worker is gone."""
    return worker.expires_at - deadlines.GONE_RETENTION if worker.expires_at else worker.seen_at


def _count_stopped(ports: Ports, launch: Launch, task: str, *beside: Write) -> None:
    writes = account(ports, launch.pool_id, launch.id, task, NO_EVENT, Taken())
    if not writes:
        return
    try:
        ports.store.commit(*writes, *beside)
    except Lost:
        ports.log("event_ignored", {"launch": launch.id, "note": "changed meanwhile"})
