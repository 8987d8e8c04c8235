"""Starting tasks: reserve in the table, call RunTask, write down what came of it.

The reservation holds the limit; the clientToken makes a repeated call start nothing more; a launch whose answer was
never written is repeated by the sweep with the same token.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from longshore.domain import deadlines, ids
from longshore.domain.placement import Demand, tasks_wanted
from longshore.domain.pool import Counters, Launch, Pool, followed
from longshore.domain.states import Reason
from longshore.domain.trouble import StartFailure, TroubleKind
from longshore.errors import Busy, Lost, NoCapacity, Refused, Throttled, Unavailable
from longshore.ports import Create, Ports, Replace, Require, Started, Write

TRIES = 5
SPOT_RETRY = timedelta(minutes=15)
"""How long tasks are started on demand after Spot had none to give."""


def launch_tasks(ports: Ports, pool: Pool) -> None:
    """Start tasks for the tickets that no worker, idle or on its way, is there for, up to the pool's limit."""
    if not pool.task_definition:
        return
    spot_is_dry = False
    for launch in _reserve(ports, pool.id):
        spot_is_dry |= call(ports, pool, launch) < launch.count and launch.spot
    if spot_is_dry:
        for launch in _reserve(ports, pool.id):
            call(ports, pool, launch)


def _reserve(ports: Ports, pool_id: str) -> list[Launch]:
    reserved: list[Launch] = []
    for _ in range(TRIES):
        pool, counters = ports.store.pool(pool_id), ports.store.counters(pool_id)
        if not pool or not counters or not pool.task_definition:
            return reserved
        most = pool.settings.max_workers + 1
        idle = len(ports.store.idle(pool_id, pool.settings.warm)) if pool.settings.warm else 0
        demand = Demand(queue=ports.store.tickets(pool_id, most), idle=idle)
        launches, now = ports.store.launches(pool_id), ports.clock()
        calls = tasks_wanted(pool, demand, launches, counters, now)
        if not calls:
            return reserved
        paused_until = counters.trouble.retry_at if counters.trouble else now
        if now < paused_until:
            ports.log("starts_paused", {"pool": pool_id, "until": paused_until.isoformat(timespec="seconds")})
            return reserved
        launch = Launch(
            id=ids.ulid(now, ports.random(10)),
            pool_id=pool_id,
            count=calls[0].count,
            spot=calls[0].spot,
            task_definition=pool.task_definition,
            created_at=now,
            due_at=now + pool.settings.accept_timeout,
        )
        try:
            ports.store.commit(Create(launch), Replace(counters.reserved(launch.count)), Require(pool))
        except (Lost, Busy):
            continue
        reserved.append(launch)
    return reserved


def call(ports: Ports, pool: Pool, launch: Launch) -> int:
    """Make (or repeat) the launch's RunTask call and write down its answer; how many of its tasks are known or sought.

    What ECS refuses is given back at once; the tickets stay, and a sweep asks again, later after each failure.
    """
    try:
        started = ports.tasks.run(launch, pool)
    except Refused as error:
        started = Started((), (str(error),), TroubleKind.PERMANENT)
    except NoCapacity as error:
        started = Started((), (str(error),), TroubleKind.CAPACITY)
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


def _put_off(ports: Ports, pool: Pool, launch: Launch, error: Unavailable) -> None:
    """Nobody knows whether the call was made: the sweep repeats it with the same token, later after each failure."""
    kind = TroubleKind.THROTTLED if isinstance(error, Throttled) else TroubleKind.PASSING
    failure = StartFailure(kind=kind, reason=Reason.START_FAILED, note=str(error))
    for _ in range(TRIES):
        current = ports.store.launch(launch.pool_id, launch.id)
        counters = ports.store.counters(launch.pool_id)
        if not current or not counters or current.answered or current.attempt != launch.attempt:
            return
        now = ports.clock()
        noted = counters.reserved(0).troubled(failure, now, ports.random(2))
        retry_at = noted.trouble.retry_at if noted.trouble else now
        due_at = max(retry_at, now + pool.settings.accept_timeout)
        later = replace(current, version=current.version + 1, due_at=due_at, note=failure.note[:200])
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
        counters = ports.store.counters(launch.pool_id)
        if not current or not counters or current.answered or current.attempt != launch.attempt:
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
        after = followed(answered, now + pool.settings.start_timeout, now + deadlines.GONE_RETENTION)
        writes: list[Write] = [Replace(after)]
        if missing:
            writes.append(Replace(_less(counters.reserved(-missing), current, started, now, ports.random(2))))
        elif counters.trouble and counters.trouble.kind in (TroubleKind.CAPACITY, TroubleKind.THROTTLED):
            # ECS takes tasks again; the rest would be known of the tasks that come of it.
            writes.append(Replace(counters.untroubled()))
        try:
            ports.store.commit(*writes)
        except (Lost, Busy):
            continue
        return
    raise Busy(f"launch {launch.id}: others kept writing")


def _less(counters: Counters, launch: Launch, started: Started, now: datetime, randomness: bytes) -> Counters:
    """What a call that was not served in full says of the next one: on demand where Spot is dry, else later."""
    if launch.spot and started.kind is TroubleKind.CAPACITY:
        return counters.without_spot(now + SPOT_RETRY)
    failure = StartFailure(kind=started.kind, reason=_reason(started), note=_note(started) or "no reason given")
    return counters.troubled(failure, now, randomness)


def _reason(started: Started) -> Reason:
    return Reason.NO_CAPACITY if started.kind is TroubleKind.CAPACITY else Reason.START_FAILED


def _note(started: Started) -> str | None:
    return started.failures[0][:200] if started.failures else None
