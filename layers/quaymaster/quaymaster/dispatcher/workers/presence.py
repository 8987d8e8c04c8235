"""Presence events of the broker. They may double, reorder or lie about a worker that is back: they only ask a question.

`who` and a deadline: a worker that answers registers again; one that does not is looked at when its deadline comes.
"""

from dataclasses import replace
from datetime import timedelta

from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.release import Release, held_run, marker_gone, release
from quaymaster.dispatcher.settle import Loss, Settled
from quaymaster.dispatcher.workers.sender import Sender
from quaymaster.domain.keys import Key
from quaymaster.domain.messages import Who
from quaymaster.domain.pool import Pool
from quaymaster.domain.run import Run
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import Worker, WorkerState, asked
from quaymaster.domain.worker import disconnected as without_connection
from quaymaster.errors import Lost, Unavailable
from quaymaster.ports import Ports, Replace, Wake, Write

LONGEST_WAKE = timedelta(minutes=15)
"""The longest delay of a message in SQS; the sweep looks at whatever is later."""


def disconnected(ports: Ports, pools: Pools, sender: Sender) -> None:
    """The broker lost a worker's connection: it gets no run until it answers, and has a deadline to do so."""
    worker = ports.store.worker(sender.pool.id, sender.worker_id)
    if not worker or worker.state not in (WorkerState.IDLE, WorkerState.BUSY) or worker.disconnected_at:
        return
    if sender.at < worker.seen_at:
        # By the broker's times it was heard later: only the handling of this event was late.
        ports.log("event_ignored", {"event": "disconnected", "worker": worker.id, "note": "heard since"})
        return
    run = held_run(ports, worker)
    settings = sender.pool.settings
    begun = run is not None and run.state is RunState.RUNNING
    wait = settings.lost_after if begun else settings.accept_timeout
    due_at = ports.clock() + wait
    if worker.state is WorkerState.IDLE:
        after = replace(asked(worker, "lost its connection", due_at), disconnected_at=sender.at)
        writes: list[Write] = [Replace(after), marker_gone(worker)]
    else:
        after = without_connection(worker, sender.at, due_at)
        writes = [Replace(after)]
    try:
        ports.store.commit(*writes)
    except Lost:
        # It was given a run, or registered, meanwhile: an unanswered offer asks the same question.
        ports.log("event_ignored", {"event": "disconnected", "worker": worker.id, "note": "changed meanwhile"})
        return
    ports.log("worker_disconnected", {"worker": worker.id, "run": run.id if run else None})
    ask(ports, after, wait)


def ask(ports: Ports, worker: Worker, wait: timedelta) -> None:
    """Send `who`, and ring when the answer is due; both may be lost, the sweep does the same."""
    send_who(ports, worker)
    ring(ports, worker.pool_id, worker.key, wait)


def send_who(ports: Ports, worker: Worker) -> None:
    """Ask a worker to register again, if the broker lets us."""
    try:
        ports.messenger.send(worker.pool_id, worker.id, Who())
    except Unavailable as error:
        ports.log("who_not_sent", {"worker": worker.id, "note": str(error)[:120]})


def ring(ports: Ports, pool_id: str, key: Key, wait: timedelta) -> None:
    """Have an item looked at when its deadline has passed, sooner than the sweep would."""
    try:
        ports.queue.wake(Wake(pool_id=pool_id, key=key), min(wait + timedelta(seconds=1), LONGEST_WAKE))
    except Unavailable as error:
        ports.log("wake_not_sent", {"pk": key.pk, "sk": key.sk, "note": str(error)[:120]})


def put_aside(ports: Ports, pools: Pools, worker: Worker, run: Run, loss: Loss) -> None:
    """Take a run that has not begun from its worker, and keep the worker out until it registers again.

    `worker` and `run` are as they were judged: if either has changed since, nothing is done.
    """
    pool = pools.get(worker.pool_id)
    if not pool:
        return
    wait = pool.settings.accept_timeout
    due_at = ports.clock() + wait
    how = Release(
        loss=loss,
        after=lambda found: asked(found, loss.note, due_at),
        still=lambda found, held: found.version == worker.version and held == run,
    )
    if release(ports, pools, worker.pool_id, worker.id, how):
        ask(ports, worker, wait)


def take_from_worker(ports: Ports, pool: Pool, run: Run, settled: Settled, note: str) -> None:
    """Take the run from its worker, and ask that one, which knows nothing of it yet, to register again. Raises Lost."""
    worker = ports.store.worker(run.pool_id, run.worker or "")
    wait = pool.settings.accept_timeout
    writes: list[Write] = [*settled.writes]
    if worker and (worker.run, worker.attempt) == (run.id, run.attempt):
        begun = run.state is RunState.RUNNING
        worker = asked(worker, note, ports.clock() + wait)
        worker = replace(worker, runs_done=worker.runs_done + begun)
        writes.append(Replace(worker))
    ports.store.commit(*writes)
    ended = settled.run
    ports.log("run_ended", {"run": run.id, "state": ended.state, "reason": ended.reason, "attempt": run.attempt})
    if worker and len(writes) > len(settled.writes):
        ask(ports, worker, wait)


NOT_ANSWERED = Loss(reason=Reason.WORKER_LOST, by="sweep", note="the offer was not answered", losses=0, offers=1)
