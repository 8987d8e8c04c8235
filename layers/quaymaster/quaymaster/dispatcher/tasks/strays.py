"""Strays: tasks that run and nobody counts. What ECS lists of a pool and no launch has a place for is stopped.

They come of answers that were lost while ECS's lists lagged behind: the place was given back, and then there was a task
after all. Nobody gives such a task a run, so that it would run, and cost, until somebody noticed.
"""

from collections.abc import Mapping
from datetime import datetime

from quaymaster.dispatcher.apart import apart
from quaymaster.domain import ids
from quaymaster.domain.pool import Launch, Pool
from quaymaster.domain.worker import WorkerState
from quaymaster.ports import Ports

AT_ONCE = 100
"""So many are described in one sweep, which is what one DescribeTasks takes: the next sweep sees the others."""
STRAY = "quaymaster: no launch has a place for it"
AT_WORK = frozenset({WorkerState.IDLE, WorkerState.BUSY, WorkerState.ASKED})


def stop_strays(ports: Ports, pool: Pool, until: datetime) -> None:
    """Stop the pool's tasks that no launch has a place for, unless one of them is a worker at work.

    ECS is asked first and the launches are read then: a launch is written before its call is made, so that a task which
    is listed has one, or had one.
    """
    listed = ports.tasks.of_pool(pool.id)
    launches = {launch.id: launch for launch in ports.store.launches(pool.id)}
    known = {task for launch in launches.values() for task in launch.counted}
    unknown = [arn for arn in listed if ids.task_id(arn) not in known]
    if not unknown:
        return

    def stop(found: tuple[str, str]) -> None:
        arn, launch_id = found
        if _is_stray(ports, pool, arn, launch_id, launches):
            ports.tasks.stop(arn, STRAY)
            ports.log("stray_stopped", {"pool": pool.id, "task": ids.task_id(arn), "launch": launch_id})

    started_by = ports.tasks.started_by(unknown[:AT_ONCE])
    apart(ports, until, started_by.items(), stop, lambda found: ("stray_not_stopped", {"task": ids.task_id(found[0])}))


def _is_stray(ports: Ports, pool: Pool, arn: str, launch_id: str, launches: Mapping[str, Launch]) -> bool:
    if not ids.ULID.fullmatch(launch_id):
        # No launch of ours: somebody started it by hand, and will know why.
        return False
    task, launch = ids.task_id(arn), launches.get(launch_id)
    if launch and not launch.answered and task not in launch.stopped:
        # What its call has started is about to be written down, or its call is about to be repeated.
        return False
    worker = ports.store.worker(pool.id, ids.worker_id(ports.namespace, pool.id, task))
    return not worker or worker.state not in AT_WORK
