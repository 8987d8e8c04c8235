"""ECS Task State Change: a task that has stopped can act no more, whatever its worker said last."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, Field, ValidationError

from quaymaster.dispatcher.placing.match import match
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.release import TRIES, Release, release
from quaymaster.dispatcher.settle import Loss
from quaymaster.dispatcher.tasks.counting import account
from quaymaster.domain import deadlines, ids
from quaymaster.domain.requests import refusal
from quaymaster.domain.states import Reason
from quaymaster.domain.stopped_tasks import Words, judge_start
from quaymaster.domain.trouble import StartFailure
from quaymaster.domain.worker import Worker, WorkerState, gone
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Ports, Write

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


class _Container(BaseModel):
    """A container of a stopped task."""

    name: str | None = None
    reason: str | None = None


class _Detail(BaseModel):
    """What is read of an event's `detail`; ECS leaves out or makes null what it does not know."""

    task_arn: str = Field(alias="taskArn", min_length=1)
    definition: str | None = Field(default=None, alias="taskDefinitionArn")
    status: str | None = Field(default=None, alias="lastStatus")
    started_by: str | None = Field(default=None, alias="startedBy")
    stop_code: str | None = Field(default=None, alias="stopCode")
    stopped_reason: str | None = Field(default=None, alias="stoppedReason")
    containers: list[_Container] | None = None


def read_task_event(found: object, ours: str) -> TaskStopped | None:
    """What matters of a stopped task of ours; None for any other. Other containers may be beside the worker's.

    Raises Refused for a field that is not what ECS sends.
    """
    try:
        detail = _Detail.model_validate(found)
    except ValidationError as error:
        raise refusal(error) from None
    family = (detail.definition or "").rpartition("/")[2].rpartition(":")[0]
    pool_id = family.removeprefix(f"{ours}-pool-")
    if detail.status != "STOPPED" or pool_id == family or not ids.ULID.fullmatch(pool_id):
        return None
    reasons = [one.reason or "" for one in detail.containers or [] if one.name == ids.CONTAINER]
    return TaskStopped(
        pool_id=pool_id,
        launch_id=detail.started_by or "",
        task_arn=detail.task_arn,
        stop_code=detail.stop_code or "",
        stopped_reason=detail.stopped_reason or "",
        container_reason=reasons[0] if reasons else "",
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


def _reason(event: TaskStopped) -> Reason:
    if "OutOfMemory" in event.container_reason:
        return Reason.OUT_OF_MEMORY
    if event.stop_code == "SpotInterruption":
        return Reason.SPOT_INTERRUPTED
    return Reason.WORKER_LOST
