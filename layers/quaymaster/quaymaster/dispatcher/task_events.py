"""ECS Task State Change: a task that has stopped can act no more, whatever its worker said last."""

from dataclasses import dataclass, replace
from datetime import datetime

from quaymaster.dispatcher.match import match
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.release import TRIES, Release, release
from quaymaster.dispatcher.settle import Loss
from quaymaster.domain import deadlines, ids
from quaymaster.domain.pool import followed
from quaymaster.domain.states import Reason
from quaymaster.domain.stopped_tasks import Words, judge_start
from quaymaster.domain.trouble import StartFailure
from quaymaster.domain.worker import Worker, WorkerState, gone
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Count, Ports, Replace, Write, rewritten

NOTED = 4
"""So many tries to note why a start failed; others that note theirs at the same moment then stand for it."""


@dataclass(frozen=True, kw_only=True)
class TaskStopped:
    """What matters of a stopped task; ECS forgets it within the hour, so this event is the only witness."""

    pool_id: str
    launch_id: str
    task_arn: str
    stop_code: str = ""
    stopped_reason: str = ""
    container_reason: str = ""

    @property
    def words(self) -> Words:
        """What ECS says of it."""
        return Words(
            stop_code=self.stop_code, stopped_reason=self.stopped_reason, container_reason=self.container_reason
        )


def task_stopped(ports: Ports, pools: Pools, event: TaskStopped) -> None:
    """Release the task's worker and its reservation, together and once, however often the event comes."""
    expires_at = ports.clock() + deadlines.GONE_RETENTION
    loss = Loss(reason=_reason(event), by="ecs", note=event.words.note[:120])
    failure = judge_start(event.words)
    worker = ids.worker_id(ports.namespace, event.pool_id, ids.task_id(event.task_arn))
    if ports.store.worker(event.pool_id, worker):
        how = Release(
            loss=loss,
            after=lambda found: _after(found, loss.note, expires_at),
            beside=lambda tries: _count(ports, event, failure, tries),
        )
        release(ports, pools, event.pool_id, worker, how)
    else:
        _count_alone(ports, event, failure)
    match(ports, pools, event.pool_id)


def _after(worker: Worker, note: str, expires_at: datetime) -> Worker | None:
    """One that has done its runs leaves nothing but these; of any other it is kept why it went."""
    if worker.state is WorkerState.LEAVING:
        return None
    return worker if worker.left else gone(worker, note, expires_at)


def _count(ports: Ports, event: TaskStopped, failure: StartFailure, tries: int) -> tuple[Write, ...]:
    return account(
        ports, event.pool_id, event.launch_id, ids.task_id(event.task_arn), failure if tries < NOTED else None
    )


def _count_alone(ports: Ports, event: TaskStopped, failure: StartFailure) -> None:
    """A task that stopped before its worker ever registered."""
    for tries in range(TRIES):
        writes = _count(ports, event, failure, tries)
        if not writes:
            return
        try:
            ports.store.commit(*writes)
        except Lost:
            continue
        ports.log(
            "task_never_registered", {"launch": event.launch_id, "kind": failure.kind, "note": failure.note[:120]}
        )
        return
    raise Busy(f"launch {event.launch_id}: others kept writing")


def account(ports: Ports, pool_id: str, launch_id: str, task: str, failure: StartFailure | None) -> tuple[Write, ...]:
    """The writes that count a task of a launch as stopped; none if it is counted already.

    One that never became a worker is a start that failed, with this `failure` unless it is noted already; the tasks of
    one launch that do so are one failure, because they share its cause.
    """
    launch = ports.store.launch(pool_id, launch_id)
    if not launch or task in launch.stopped:
        return ()
    if launch.answered and task not in launch.joined and not launch.task_of(task):
        # Its place was given back when the answer did not name it.
        return ()
    came_to_nothing = failure if task not in launch.joined else None
    counted = replace(
        launch,
        stopped=(*launch.stopped, task),
        note=came_to_nothing.note[:200] if came_to_nothing else launch.note,
    )
    writes: list[Write] = [*rewritten(launch, followed(counted, launch.due_at))]
    if counted.places != launch.places:
        writes.append(Count(pool_id, counted.places - launch.places))
    is_first = set(launch.stopped) <= set(launch.joined)
    starts = ports.store.starts(pool_id) if came_to_nothing and is_first else None
    if starts and came_to_nothing:
        writes.append(Replace(starts.troubled(came_to_nothing, ports.clock(), ports.random(2))))
    return tuple(writes)


def _reason(event: TaskStopped) -> Reason:
    if "OutOfMemory" in event.container_reason:
        return Reason.OUT_OF_MEMORY
    if event.stop_code == "SpotInterruption":
        return Reason.SPOT_INTERRUPTED
    return Reason.WORKER_LOST
