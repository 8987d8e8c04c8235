"""`registered`: a worker is there. It becomes IDLE, or is told what it still holds."""

from dataclasses import replace
from datetime import timedelta

from quaymaster.dispatcher.placing.announce import Assignment, announce, repeat, send_refused
from quaymaster.dispatcher.placing.match import match
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.release import TRIES, Release, held_run, release
from quaymaster.dispatcher.settle import Loss
from quaymaster.dispatcher.tasks.image_definitions import definition_of
from quaymaster.dispatcher.workers.finish import Following, bound_run, next_run, stop_task
from quaymaster.dispatcher.workers.sender import Sender
from quaymaster.domain import deadlines, ids
from quaymaster.domain.messages import Holding, Registered, Remains, Unfit, Welcome
from quaymaster.domain.placement import used_up
from quaymaster.domain.pool import Launch
from quaymaster.domain.run import started_for
from quaymaster.domain.states import Reason
from quaymaster.domain.worker import Agent, Worker, WorkerState, freed, gone, leaving, occupied, reconnected
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Create, Delete, Ports, Replace, Require, Write, rewritten

REAL = {WorkerState.IDLE, WorkerState.BUSY, WorkerState.LEAVING}


def registered(ports: Ports, pools: Pools, sender: Sender, message: Registered) -> None:
    """Take a worker in. Safe to repeat: the same session only refreshes, an older one changes nothing.

    Never turns BUSY into IDLE. A new session takes over, and the run of the one before is handled as lost.
    """
    if message.executor is not sender.pool.executor:
        _turn_away(ports, sender, message)
        return
    for remains in message.remains:
        _bury(ports, pools, sender, remains)
    for tries in range(TRIES):
        worker = ports.store.worker(sender.pool.id, sender.worker_id)
        if worker and (note := _older(worker, sender, message)):
            ports.log("event_ignored", {"event": "registered", "worker": sender.worker_id, "note": note})
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
        try:
            _enter(ports, pools, sender, worker, message, contended=tries > 0)
        except Lost:
            continue
        return
    raise Busy(f"worker {sender.worker_id}: others kept writing")


def _turn_away(ports: Ports, sender: Sender, message: Registered) -> None:
    """A claim looks for any worker of a pool: one that runs commands in something else must not be there."""
    note = f"pool {sender.pool.name} has the executor {sender.pool.executor}, and this agent has {message.executor}"
    ports.log("worker_turned_away", {"worker": sender.worker_id, "pool": sender.pool.id, "note": note})
    ports.messenger.send(sender.pool.id, sender.worker_id, Unfit(session=message.session, note=note))


def _older(worker: Worker, sender: Sender, message: Registered) -> str | None:
    """Why this message says nothing any more; by the broker's times, whatever the order of handling."""
    if message.session < worker.session:
        return "older session"
    if message.session > worker.session:
        return None
    if worker.left:
        return "it has left"
    if worker.state not in REAL and worker.disconnected_at and sender.at < worker.disconnected_at:
        return "it was sent before its connection was lost"
    return None


def _enter(
    ports: Ports, pools: Pools, sender: Sender, worker: Worker | None, message: Registered, *, contended: bool
) -> None:
    """Take in a worker that holds nothing, unless its task has had its time or its runs. Raises Lost."""
    launch = _launch_of(ports, sender, message)
    if note := _over(launch, sender, message):
        ports.log("event_ignored", {"event": "registered", "worker": sender.worker_id, "note": note})
    else:
        after, following = _take_in(ports, sender, worker, launch, message, contended=contended)
        _set_to_work(ports, pools, sender, after, following)


def _take_in(
    ports: Ports,
    sender: Sender,
    before: Worker | None,
    launch: Launch | None,
    message: Registered,
    *,
    contended: bool,
) -> tuple[Worker, Following | None]:
    """Write the worker IDLE with its marker, or, as a launch's that it joins, with the next run of the queue.

    A task is started because runs wait: that it takes one as it comes spares the marker and a write of the worker. One
    that has had its runs, and is there after all, is given no other.
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
        bound=bool(launch.run) if launch else fresh.bound,
        spot=launch.spot if launch else fresh.spot,
        task_arn=launch.task_of(ids.worker_name(sender.worker_id)) if launch else fresh.task_arn,
        expires_at=None,
    )
    idle, marker = freed(fresh, ids.ulid(now, ports.random(10))[10:], now)
    after = idle = replace(idle, seen_at=sender.at)
    following = _first_run(ports, sender, fresh, launch, contended=contended) if launch else None
    if launch and following:
        # The start is the run's for which the task came up; one that comes back has been counted.
        took = 0 if before else (now - launch.called_at).total_seconds()
        following = replace(following, run=started_for(following.run, took, spot=launch.spot))
        busy = occupied(idle, following.run.id, following.run.attempt, now)
        after = replace(busy, version=idle.version)
        writes: list[Write] = [Delete(following.ticket), Replace(following.run)]
    elif idle.launch and used_up(sender.pool, idle):
        after = replace(leaving(idle, "has done its last run", now + deadlines.LEAVE), version=idle.version)
        writes = []
    else:
        writes = [Create(replace(marker, worker=idle))]
    writes += rewritten(before, after) if before else (Create(after),)
    if launch:
        writes.append(_joined(launch, sender.worker_id))
        writes += _came_up(ports, launch)
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
    return after, following


def _first_run(ports: Ports, sender: Sender, worker: Worker, launch: Launch, *, contended: bool) -> Following | None:
    """The run that a task takes as it comes: its own, or else the next of the queue."""
    if launch.run:
        return bound_run(ports, sender, worker, launch.run)
    return None if used_up(sender.pool, worker) else next_run(ports, sender, worker, contended=contended)


def _came_up(ports: Ports, launch: Launch) -> tuple[Write, ...]:
    """What stood against starting such tasks is over: of the pool's own, or of the image that this one is of."""
    found = definition_of(ports, launch) if launch.run else ports.store.starts(launch.pool_id)
    return (Replace(found.untroubled()),) if found and found.trouble else ()


def _set_to_work(ports: Ports, pools: Pools, sender: Sender, worker: Worker, following: Following | None) -> None:
    _welcome(ports, sender, worker.session)
    if following:
        announce(ports, sender.pool, Assignment(run=following.run, spec=following.spec))
    elif worker.state is WorkerState.LEAVING:
        stop_task(ports, worker)
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


def _over(launch: Launch | None, sender: Sender, message: Registered) -> str | None:
    """Why a task must be given no run any more: it has stopped, or comes up after its time and is being stopped."""
    if not launch:
        return "its launch is forgotten" if message.launch else None
    task = ids.worker_name(sender.worker_id)
    if task in launch.stopped:
        return "its task stopped"
    if launch.answered and task not in (*map(ids.task_id, launch.tasks), *launch.joined):
        return "its launch has no place for it"
    if task in launch.late:
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
        workspace_cap_bytes=settings.workspace_cap_bytes,
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
        if worker.disconnected_at and sender.at >= worker.disconnected_at:
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
    now = ports.clock()
    how = Release(
        loss=loss,
        after=lambda found: gone(
            found, loss.note, now + deadlines.GONE_RETENTION, sought_until=now + deadlines.LOOKED_FOR
        ),
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
        after=lambda found: gone(found, loss.note, expires_at),
        still=lambda found, run: run is not None and (run.id, run.attempt) == (remains.run, remains.attempt),
    )
    release(ports, pools, sender.pool.id, remains.worker_id, how)
