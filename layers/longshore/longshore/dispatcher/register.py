"""`registered`: a worker is there. It becomes IDLE, or is told what it still holds."""

from dataclasses import replace
from datetime import timedelta

from longshore.dispatcher.announce import Assignment, announce, repeat, send_refused
from longshore.dispatcher.finish import Following, next_run
from longshore.dispatcher.match import match
from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.release import Release, held_run, release
from longshore.dispatcher.sender import Sender
from longshore.dispatcher.settle import Loss
from longshore.domain import deadlines, ids
from longshore.domain.messages import Holding, Registered, Remains, Welcome
from longshore.domain.pool import Launch
from longshore.domain.states import Reason
from longshore.domain.worker import Agent, Worker, WorkerState, freed, gone, occupied, reconnected
from longshore.errors import Busy, Lost
from longshore.ports import Create, Delete, Ports, Replace, Require, Write

TRIES = 8
REAL = {WorkerState.IDLE, WorkerState.BUSY, WorkerState.LEAVING}


def registered(ports: Ports, pools: Pools, sender: Sender, message: Registered) -> None:
    """Take a worker in. Safe to repeat: the same session only refreshes, an older one changes nothing.

    Never turns BUSY into IDLE. A new session takes over, and the run of the one before is handled as lost.
    """
    for remains in message.remains:
        _bury(ports, pools, sender, remains)
    for tries in range(TRIES):
        worker = ports.store.worker(sender.pool.id, sender.worker_id)
        if worker and message.session < worker.session:
            ports.log("event_ignored", {"event": "registered", "worker": sender.worker_id, "note": "older session"})
            return
        if worker and worker.left and message.session == worker.session:
            ports.log("event_ignored", {"event": "registered", "worker": sender.worker_id, "note": "it has left"})
            return
        if worker and message.session > worker.session and worker.state is not WorkerState.GONE:
            _retire(ports, pools, worker)
            continue
        if worker and worker.state in REAL:
            _refresh(ports, pools, sender, worker, message)
            return
        if message.holding:
            # Its run was taken from it while it was away. It gets no marker before it has let go.
            held = message.holding
            _welcome(ports, sender, message.session)
            send_refused(ports, sender.pool.id, sender.worker_id, message.session, held.run, held.attempt)
            return
        launch = _launch_of(ports, sender, message)
        if launch and (note := _over(ports, launch, sender.worker_id)):
            ports.log("event_ignored", {"event": "registered", "worker": sender.worker_id, "note": note})
            return
        try:
            following = _take_in(ports, sender, worker, launch, message, contended=tries > 0)
        except Lost:
            continue
        _set_to_work(ports, pools, sender, message.session, following)
        return
    raise Busy(f"worker {sender.worker_id}: others kept writing")


def _take_in(
    ports: Ports,
    sender: Sender,
    before: Worker | None,
    launch: Launch | None,
    message: Registered,
    *,
    contended: bool,
) -> Following | None:
    """Write the worker IDLE with its marker, or, as a launch's that it joins, with the next run of the queue.

    A task is started because runs wait: that it takes one as it comes spares the marker and a write of the worker.
    """
    now = ports.clock()
    fresh = before or Worker(
        id=sender.worker_id,
        pool_id=sender.pool.id,
        state=WorkerState.ASKED,
        version=0,
        session=message.session,
        created_at=now,
        seen_at=now,
    )
    fresh = replace(
        fresh,
        session=message.session,
        generation=sender.pool.generation,
        log_limit=_span(message.log_timeout_seconds),
        run_limit=_span(message.run_timeout_seconds),
        launch=launch.id if launch else fresh.launch,
        task_arn=launch.task_of(ids.worker_name(sender.worker_id)) if launch else fresh.task_arn,
        expires_at=None,
    )
    idle, marker = freed(fresh, ids.ulid(now, ports.random(10))[10:], now)
    following = next_run(ports, sender, fresh, contended=contended) if launch else None
    if following:
        busy = occupied(idle, following.run.id, following.run.attempt, now)
        busy = replace(busy, version=idle.version)
        writes = [Replace(busy) if before else Create(busy), Delete(following.ticket), Replace(following.run)]
    else:
        writes: list[Write] = [Replace(idle) if before else Create(idle), Create(marker)]
    if launch:
        writes.append(_joined(launch, sender.worker_id))
        counters = ports.store.counters(sender.pool.id)
        if counters and counters.trouble:
            writes.append(Replace(counters.untroubled()))
    agent = ports.store.agent(sender.pool.id, sender.worker_id)
    described = Agent(
        pool_id=sender.pool.id,
        worker_id=sender.worker_id,
        agent_version=message.agent_version,
        metadata=message.metadata,
        version=agent.version + 1 if agent else 1,
        expires_at=now + deadlines.TASK_RETENTION if launch else None,
    )
    writes.append(Replace(described) if agent else Create(described))
    ports.store.commit(*writes)
    ports.log("worker_registered", {"worker": sender.worker_id, "pool": sender.pool.id})
    return following


def _set_to_work(ports: Ports, pools: Pools, sender: Sender, session: str, following: Following | None) -> None:
    _welcome(ports, sender, session)
    if following:
        announce(ports, sender.pool, Assignment(run=following.run, spec=following.spec))
    else:
        match(ports, pools, sender.pool.id)


def _joined(launch: Launch, worker_id: str) -> Write:
    """The worker counts as one of its launch; a task that stops meanwhile makes the whole transaction lose."""
    task = ids.worker_name(worker_id)
    if task in launch.joined:
        return Require(launch)
    return Replace(replace(launch, version=launch.version + 1, joined=(*launch.joined, task)))


def _launch_of(ports: Ports, sender: Sender, message: Registered) -> Launch | None:
    if not message.launch or not ids.ULID.fullmatch(message.launch):
        return None
    return ports.store.launch(sender.pool.id, message.launch)


def _over(ports: Ports, launch: Launch, worker_id: str) -> str | None:
    """Why a task must be given no run any more: it has stopped, or comes up after its time and is being stopped."""
    task = ids.worker_name(worker_id)
    if task in launch.stopped:
        return "its task stopped"
    if task not in launch.joined and launch.answered and ports.clock() >= launch.called_at + deadlines.LATE_TASK:
        return "its task is late"
    return None


def _span(seconds: float | None) -> timedelta | None:
    return timedelta(seconds=seconds) if seconds else None


def _welcome(ports: Ports, sender: Sender, session: str) -> None:
    settings = sender.pool.settings
    message = Welcome(
        session=session,
        lease_seconds=settings.lease.total_seconds(),
        stop_grace_seconds=settings.stop_grace.total_seconds(),
        log_cap_bytes=settings.log_cap_bytes,
    )
    ports.messenger.send(sender.pool.id, sender.worker_id, message)


def _refresh(ports: Ports, pools: Pools, sender: Sender, worker: Worker, message: Registered) -> None:
    """A known session: tell it where it stands, and drop what it holds by mistake."""
    _welcome(ports, sender, message.session)
    run = held_run(ports, worker)
    held: Holding | None = message.holding
    if held and not (run and (run.id, run.attempt) == (held.run, held.attempt)):
        send_refused(ports, sender.pool.id, worker.id, message.session, held.run, held.attempt)
    if run:
        if worker.disconnected_at:
            _reconnect(ports, worker, sender)
        repeat(ports, sender.pool, run)
    elif worker.state is WorkerState.IDLE:
        match(ports, pools, sender.pool.id)


def _reconnect(ports: Ports, worker: Worker, sender: Sender) -> None:
    try:
        ports.store.commit(Replace(reconnected(worker, sender.at)))
    except Lost:
        ports.log("event_ignored", {"event": "registered", "worker": worker.id, "note": "changed meanwhile"})


def _retire(ports: Ports, pools: Pools, worker: Worker) -> None:
    """A newer session of the same worker: what the older one held is lost."""
    loss = Loss(reason=Reason.WORKER_LOST, by="registration", note="its agent was started anew")
    expires_at = ports.clock() + deadlines.GONE_RETENTION
    how = Release(
        loss=loss,
        after=lambda found: gone(found, loss.note, expires_at),
        still=lambda found, _: found.session == worker.session and found.state is not WorkerState.GONE,
    )
    release(ports, pools, worker.pool_id, worker.id, how)


def _bury(ports: Ports, pools: Pools, sender: Sender, remains: Remains) -> None:
    """What a crashed agent left has been removed on its host: its worker is gone, and its run can act no more."""
    if ids.pool_of(remains.worker_id) != sender.pool.id or remains.worker_id == sender.worker_id:
        return
    loss = Loss(reason=Reason.WORKER_LOST, by="registration", note="its agent crashed; the next one removed the rest")
    expires_at = ports.clock() + deadlines.GONE_RETENTION
    how = Release(
        loss=loss,
        after=lambda found: gone(found, loss.note, expires_at, left=True),
        still=lambda found, run: run is not None and (run.id, run.attempt) == (remains.run, remains.attempt),
    )
    release(ports, pools, sender.pool.id, remains.worker_id, how)
