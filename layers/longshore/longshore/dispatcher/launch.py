"""Starting tasks: reserve in the table, call RunTask, write down what came of it.

The reservation holds the limit; the clientToken makes a repeated call start nothing more; a launch whose answer was
never written is repeated by the sweep with the same token.
"""

from dataclasses import replace
from datetime import datetime

from longshore.domain import deadlines, ids
from longshore.domain.placement import tasks_wanted
from longshore.domain.pool import Launch, Pool
from longshore.errors import Busy, Lost, Refused, Unavailable
from longshore.ports import Create, Ports, Replace, Require

RESERVE_TRIES = 5


def launch_tasks(ports: Ports, pool: Pool) -> None:
    """Start tasks for the tickets that no worker, idle or on its way, is there for, up to the pool's limit."""
    if not pool.task_definition:
        return
    for launch in _reserve(ports, pool.id):
        call(ports, pool, launch)


def _reserve(ports: Ports, pool_id: str) -> list[Launch]:
    reserved: list[Launch] = []
    for _ in range(RESERVE_TRIES):
        pool, counters = ports.store.pool(pool_id), ports.store.counters(pool_id)
        if not pool or not counters or not pool.task_definition:
            return reserved
        waiting = len(ports.store.tickets(pool_id, pool.settings.max_workers + 1))
        sizes = tasks_wanted(pool, waiting, ports.store.launches(pool_id), counters)
        if not sizes:
            return reserved
        now = ports.clock()
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

    What ECS refuses is given back at once; the tickets stay, and the next sweep asks again.
    """
    try:
        started = ports.tasks.run(launch, pool)
    except Refused as error:
        _give_back(ports, launch, launch.count, str(error))
        return
    except Unavailable as error:
        # Nobody knows whether it was made: the sweep repeats it with the same token.
        ports.log("launch_unanswered", {"pool": pool.id, "launch": launch.id, "note": str(error)[:200]})
        return
    note = started.failures[0] if started.failures else None
    answered = replace(
        launch,
        version=launch.version + 1,
        tasks=started.tasks,
        answered=True,
        note=note,
        due_at=ports.clock() + pool.settings.start_timeout,
    )
    ports.log("tasks_started", {"pool": pool.id, "launch": launch.id, "count": len(started.tasks)})
    if len(started.tasks) < launch.count:
        _give_back(ports, answered, launch.count - len(started.tasks), note or "ECS started fewer tasks than asked")
        return
    _write(ports, answered)


def _write(ports: Ports, launch: Launch) -> None:
    try:
        ports.store.commit(Replace(launch))
    except Lost:
        # A worker joined, or a task stopped, before the answer was written: keep what they wrote, add the ARNs.
        current = ports.store.launch(launch.pool_id, launch.id)
        if current and not current.answered:
            merged = replace(
                current,
                version=current.version + 1,
                tasks=launch.tasks,
                answered=True,
                note=launch.note,
                due_at=launch.due_at,
            )
            ports.store.commit(Replace(merged))


def _give_back(ports: Ports, launch: Launch, tasks: int, note: str) -> None:
    for _ in range(RESERVE_TRIES):
        counters = ports.store.counters(launch.pool_id)
        current = ports.store.launch(launch.pool_id, launch.id)
        if not counters or not current or current.answered:
            return
        now = ports.clock()
        left = current.count - tasks
        given_back = replace(
            current,
            version=current.version + 1,
            count=left,
            tasks=launch.tasks,
            answered=True,
            note=note[:200],
            due_at=launch.due_at if left else None,
            expires_at=None if left else _expiry(now),
        )
        try:
            ports.store.commit(Replace(given_back), Replace(counters.reserved(-tasks)))
        except (Lost, Busy):
            continue
        ports.log(
            "tasks_not_started", {"pool": launch.pool_id, "launch": launch.id, "count": tasks, "note": note[:200]}
        )
        return
    raise Busy(f"launch {launch.id}: others kept writing")


def _expiry(now: datetime) -> datetime:
    return now + deadlines.GONE_RETENTION
