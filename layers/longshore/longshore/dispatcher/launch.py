"""Starting tasks: reserve in the table, call RunTask, write down what came of it.

The reservation holds the limit; the clientToken makes a repeated call start nothing more; a launch whose answer was
never written is repeated by the sweep with the same token.
"""

from dataclasses import replace

from longshore.domain import deadlines, ids
from longshore.domain.placement import starts_paused_until, tasks_wanted
from longshore.domain.pool import Launch, Pool, followed
from longshore.errors import Busy, Lost, Refused, Unavailable
from longshore.ports import Create, Ports, Replace, Require, Started, Write

TRIES = 5


def launch_tasks(ports: Ports, pool: Pool) -> None:
    """Start tasks for the tickets that no worker, idle or on its way, is there for, up to the pool's limit."""
    if not pool.task_definition:
        return
    for launch in _reserve(ports, pool.id):
        call(ports, pool, launch)


def _reserve(ports: Ports, pool_id: str) -> list[Launch]:
    reserved: list[Launch] = []
    for _ in range(TRIES):
        pool, counters = ports.store.pool(pool_id), ports.store.counters(pool_id)
        if not pool or not counters or not pool.task_definition:
            return reserved
        waiting = len(ports.store.tickets(pool_id, pool.settings.max_workers + 1))
        launches, now = ports.store.launches(pool_id), ports.clock()
        sizes = tasks_wanted(pool, waiting, launches, counters)
        if not sizes:
            return reserved
        paused_until = starts_paused_until(launches, deadlines.GONE_RETENTION)
        if paused_until and now < paused_until:
            ports.log("starts_paused", {"pool": pool_id, "until": paused_until.isoformat(timespec="seconds")})
            return reserved
        launch = Launch(
            id=ids.ulid(now, ports.random(10)),
            pool_id=pool_id,
            count=sizes[0],
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


def call(ports: Ports, pool: Pool, launch: Launch) -> None:
    """Make (or repeat) the launch's RunTask call and write down its answer.

    What ECS refuses is given back at once; the tickets stay, and a sweep asks again, later after each failure.
    """
    try:
        started = ports.tasks.run(launch, pool)
    except Refused as error:
        started = Started(tasks=(), failures=(str(error),))
    except Unavailable as error:
        # Nobody knows whether it was made: the sweep repeats it with the same token.
        ports.log("launch_unanswered", {"pool": pool.id, "launch": launch.id, "note": str(error)[:200]})
        return
    _write_answer(ports, pool, launch, started)
    ports.log("tasks_started", {"pool": pool.id, "launch": launch.id, "count": len(started.tasks)})
    missing = launch.count - len(started.tasks)
    if missing > 0:
        note = _note(started) or ""
        ports.log("tasks_not_started", {"pool": pool.id, "launch": launch.id, "count": missing, "note": note})


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
            current, count=current.count - missing, tasks=started.tasks, answered=True, note=_note(started)
        )
        after = followed(answered, now + pool.settings.start_timeout, now + deadlines.GONE_RETENTION)
        writes: list[Write] = [Replace(after)]
        if missing:
            writes.append(Replace(counters.reserved(-missing)))
        try:
            ports.store.commit(*writes)
        except (Lost, Busy):
            continue
        return
    raise Busy(f"launch {launch.id}: others kept writing")


def _note(started: Started) -> str | None:
    return started.failures[0][:200] if started.failures else None
