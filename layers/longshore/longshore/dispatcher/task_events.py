"""ECS Task State Change: a task that has stopped can act no more, whatever its worker said last."""

from dataclasses import dataclass, replace
from datetime import datetime

from longshore.dispatcher.match import match
from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.release import TRIES, Release, release
from longshore.dispatcher.settle import Loss
from longshore.domain import deadlines, ids
from longshore.domain.pool import followed
from longshore.domain.states import Reason
from longshore.domain.stopped_tasks import Words, judge_start
from longshore.domain.trouble import StartFailure
from longshore.domain.worker import Worker, gone
from longshore.errors import Busy, Lost
from longshore.ports import Ports, Replace, Write


@dataclass(frozen=True, kw_only=True)
class TaskStopped:
    """What matters of a stopped task; ECS forgets it within the hour, so this event is the only witness."""

    pool_id: str
    launch_id: str
    task_arn: str
    namespace: str
    stop_code: str = ""
    stopped_reason: str = ""
    container_reason: str = ""

    @property
    def words(self) -> Words:
        """What ECS says of it."""
        return Words(
            stop_code=self.stop_code, stopped_reason=self.stopped_reason, container_reason=self.container_reason
        )

    @property
    def worker_id(self) -> str:
        """The worker that ran in the task."""
        return ids.worker_id(self.namespace, self.pool_id, ids.task_id(self.task_arn))


def task_stopped(ports: Ports, pools: Pools, event: TaskStopped) -> None:
    """Release the task's worker and its reservation, together and once, however often the event comes."""
    expires_at = ports.clock() + deadlines.GONE_RETENTION
    loss = Loss(reason=_reason(event), by="ecs", note=event.words.note[:120])
    failure = judge_start(event.words)
    if ports.store.worker(event.pool_id, event.worker_id):
        how = Release(
            loss=loss,
            after=lambda found: _gone(found, loss.note, expires_at),
            beside=lambda: account(ports, event.pool_id, event.launch_id, event.task_arn, failure),
        )
        release(ports, pools, event.pool_id, event.worker_id, how)
    else:
        _account_alone(ports, event, failure)
    match(ports, pools, event.pool_id)


def _gone(worker: Worker, note: str, expires_at: datetime) -> Worker:
    return worker if worker.left else gone(worker, note, expires_at, left=True)


def _account_alone(ports: Ports, event: TaskStopped, failure: StartFailure) -> None:
    """A task that stopped before its worker ever registered."""
    for _ in range(TRIES):
        writes = account(ports, event.pool_id, event.launch_id, event.task_arn, failure)
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


def account(ports: Ports, pool_id: str, launch_id: str, task_arn: str, failure: StartFailure) -> tuple[Write, ...]:
    """The writes that count a task of a launch as stopped; none if it is counted already.

    One that never became a worker is a start that failed; the tasks of one launch that do so are one failure, because
    they share its cause.
    """
    launch = ports.store.launch(pool_id, launch_id)
    task = ids.task_id(task_arn)
    if not launch or task in launch.stopped:
        return ()
    if launch.answered and task not in launch.joined and not launch.task_of(task):
        # Its place was given back when the answer did not name it.
        return ()
    counters = ports.store.counters(pool_id)
    if not counters:
        return ()
    now = ports.clock()
    after = counters.reserved(-1)
    if task not in launch.joined and set(launch.stopped) <= set(launch.joined):
        after = after.troubled(failure, now, ports.random(2))
    counted = replace(
        launch,
        stopped=(*launch.stopped, task),
        note=launch.note if task in launch.joined else failure.note[:200],
    )
    return (Replace(followed(counted, launch.due_at, now + deadlines.GONE_RETENTION)), Replace(after))


def _reason(event: TaskStopped) -> Reason:
    if "OutOfMemory" in event.container_reason:
        return Reason.OUT_OF_MEMORY
    if event.stop_code == "SpotInterruption":
        return Reason.SPOT_INTERRUPTED
    return Reason.WORKER_LOST
