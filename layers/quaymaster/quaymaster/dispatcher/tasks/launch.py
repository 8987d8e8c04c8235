"""Starting tasks: reserve in the table, call RunTask, write down what came of it.

The reservation holds the limit; the clientToken makes a repeated call start nothing more; a launch whose answer was
never written is repeated by the sweep with the same token. A place is given back only where ECS lists no task for it:
a call that is refused may be the repetition of one that was not.
"""

from dataclasses import replace

from quaymaster.dispatcher.tasks.bound import start_failed
from quaymaster.dispatcher.tasks.reserve import reserve
from quaymaster.domain import ids
from quaymaster.domain.placement import EVERYBODYS
from quaymaster.domain.pool import Launch, Pool, Starts, followed
from quaymaster.domain.states import Reason
from quaymaster.domain.trouble import SAID, StartFailure, TroubleKind
from quaymaster.errors import Busy, Lost, NoCapacity, Refused, Throttled, Unavailable
from quaymaster.ports import Count, Ports, Replace, Started, Write, rewritten

TRIES = 5


def launch_tasks(ports: Ports, pool: Pool) -> None:
    """Start tasks for the tickets that no worker, idle or on its way, is there for, up to the pool's limit."""
    if not pool.task_definition:
        return
    spot_is_dry = False
    for launch in reserve(ports, pool.id):
        spot_is_dry |= call(ports, pool, launch) < launch.count and launch.spot
    if spot_is_dry:
        for launch in reserve(ports, pool.id):
            call(ports, pool, launch)


def call(ports: Ports, pool: Pool, launch: Launch) -> int:
    """Make (or repeat) the launch's RunTask call and write down its answer; how many of its tasks are known or sought.

    What ECS refuses is given back; the tickets stay, and a sweep asks again, later after each failure.
    """
    try:
        started = _run(ports, pool, launch)
    except Unavailable as error:
        ports.log("launch_unanswered", {"pool": pool.id, "launch": launch.id, "note": str(error)[:200]})
        _put_off(ports, pool, launch, error)
        return launch.count
    _write_answer(ports, pool, launch, started)
    ports.log("tasks_started", {"pool": pool.id, "launch": launch.id, "count": len(started.tasks)})
    missing = launch.count - len(started.tasks)
    if missing > 0:
        note = _note(started) or ""
        ports.log("tasks_not_started", {"pool": pool.id, "launch": launch.id, "count": missing, "note": note})
    return len(started.tasks)


def _run(ports: Ports, pool: Pool, launch: Launch) -> Started:
    """What ECS started. A refusal is no proof that this is nothing: an earlier call may have been made."""
    try:
        return ports.tasks.run(launch, pool)
    except Refused as error:
        kind, note = TroubleKind.PERMANENT, str(error)
    except NoCapacity as error:
        kind, note = TroubleKind.CAPACITY, str(error)
    try:
        return Started(tuple(ports.tasks.of_launch(launch)), (note,), kind)
    except Unavailable as error:
        raise Unavailable("ecs", f"{note}; what an earlier call started is not known: {error}") from error


def _put_off(ports: Ports, pool: Pool, launch: Launch, error: Unavailable) -> None:
    """Nobody knows whether the call was made: the sweep repeats it with the same token, later after each failure."""
    kind = TroubleKind.THROTTLED if isinstance(error, Throttled) else TroubleKind.PASSING
    failure = StartFailure(kind=kind, reason=Reason.START_FAILED, note=str(error))
    for _ in range(TRIES):
        current = ports.store.launch(launch.pool_id, launch.id)
        starts = ports.store.starts(launch.pool_id)
        if not current or not starts or current.answered or current.attempt != launch.attempt:
            return
        now = ports.clock()
        noted = starts.troubled(failure, now, ports.random(2))
        retry_at = noted.trouble.retry_at if noted.trouble else now
        due_at = max(retry_at, now + pool.settings.accept_timeout)
        later = replace(current, version=current.version + 1, due_at=due_at, note=failure.note[:SAID])
        try:
            ports.store.commit(Replace(later), Replace(noted))
        except (Lost, Busy):
            continue
        return
    raise Busy(f"launch {launch.id}: others kept writing")


def _write_answer(ports: Ports, pool: Pool, launch: Launch, started: Started) -> None:
    """Write down the tasks that were started, and give back the places of those that were not.

    A worker may have joined, or a task stopped, before the answer was written: what they wrote is kept.
    """
    for _ in range(TRIES):
        current = ports.store.launch(launch.pool_id, launch.id)
        starts = ports.store.starts(launch.pool_id)
        if not current or not starts or current.answered or current.attempt != launch.attempt:
            return
        known = {ids.task_id(arn) for arn in started.tasks}.union(current.joined, current.stopped)
        missing = max(0, current.count - len(known))
        now = ports.clock()
        answered = replace(
            current,
            count=current.count - missing,
            tasks=started.tasks,
            answered=True,
            answered_at=now,
            note=_note(started),
        )
        writes: list[Write] = [*rewritten(current, followed(answered, now + pool.settings.start_timeout))]
        if missing:
            writes.append(Count(pool.id, -missing))
            writes += _less(ports, pool, current, starts, started)
        elif launch.spot and starts.drought:
            writes.append(Replace(starts.with_spot()))
        elif starts.trouble and starts.trouble.kind in (TroubleKind.CAPACITY, TroubleKind.THROTTLED):
            # ECS takes tasks again; the rest would be known of the tasks that come of it.
            writes.append(Replace(starts.untroubled()))
        try:
            ports.store.commit(*writes)
        except (Lost, Busy):
            continue
        return
    raise Busy(f"launch {launch.id}: others kept writing")


def _less(ports: Ports, pool: Pool, launch: Launch, starts: Starts, started: Started) -> tuple[Write, ...]:
    """What a call that was not served in full says of the next one: not on Spot where that is dry, else later.

    One for a single run that is refused for good says nothing of others: it ends that run.
    """
    now, randomness = ports.clock(), ports.random(2)
    note = _note(started) or "no reason given"
    if launch.spot and started.kind is TroubleKind.CAPACITY:
        return (Replace(starts.without_spot(note, pool.settings, now, randomness)),)
    failure = StartFailure(kind=started.kind, reason=_reason(started), note=note)
    if launch.run and failure.kind not in EVERYBODYS:
        return start_failed(ports, launch, failure)
    return (Replace(starts.troubled(failure, now, randomness)),)


def _reason(started: Started) -> Reason:
    return Reason.NO_CAPACITY if started.kind is TroubleKind.CAPACITY else Reason.START_FAILED


def _note(started: Started) -> str | None:
    return started.failures[0][:SAID] if started.failures else None
