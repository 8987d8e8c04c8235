"""ECS Task State Change: a task that has stopped can act no more, whatever its worker said last."""

from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import BaseModel, Field, ValidationError

from quaymaster.dispatcher.placing.match import match
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.release import TRIES, Release, marker_gone, release
from quaymaster.dispatcher.settle import Loss
from quaymaster.dispatcher.tasks.counting import Taken, account
from quaymaster.domain import deadlines, ids
from quaymaster.domain.requests import refusal
from quaymaster.domain.run import explained
from quaymaster.domain.states import Reason
from quaymaster.domain.stopped_tasks import Words, judge_start
from quaymaster.domain.trouble import StartFailure
from quaymaster.domain.worker import Worker, WorkerState, gone, leaving, warned
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Ports, Replace, Write

TAKEN_BACK = frozenset({"SpotInterruption", "TerminationNotice"})
"""Both are stop codes of ECS, and both have been seen of Spot: the second in its older events."""
NOTICE = "its Spot capacity is taken back"
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
    exit_code: int | None = None
    seconds: float | None = None
    """From the pull of its image to its end, as ECS tells it."""

    @property
    def words(self) -> Words:
        """What ECS says of it."""
        return Words(
            stop_code=self.stop_code,
            stopped_reason=self.stopped_reason,
            container_reason=self.container_reason,
            exit_code=self.exit_code,
        )


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """ECS is about to stop a task in two minutes, because it wants its Spot capacity back."""

    pool_id: str
    task_arn: str


class _Container(BaseModel):
    """A container of a stopped task."""

    name: str | None = None
    reason: str | None = None
    exit_code: int | None = Field(default=None, alias="exitCode")


class _Detail(BaseModel):
    """What is read of an event's `detail`; ECS leaves out or makes null what it does not know."""

    task_arn: str = Field(alias="taskArn", min_length=1)
    definition: str | None = Field(default=None, alias="taskDefinitionArn")
    status: str | None = Field(default=None, alias="lastStatus")
    started_by: str | None = Field(default=None, alias="startedBy")
    stop_code: str | None = Field(default=None, alias="stopCode")
    stopped_reason: str | None = Field(default=None, alias="stoppedReason")
    pull_started_at: datetime | None = Field(default=None, alias="pullStartedAt")
    stopped_at: datetime | None = Field(default=None, alias="stoppedAt")
    containers: list[_Container] | None = None


def read_task_event(found: object, ours: str) -> TaskStopped | TakenBack | None:
    """What matters of a task of ours: that it has stopped, or is about to; None for all else.

    Other containers may be beside the worker's.

    Raises Refused for a field that is not what ECS sends.
    """
    try:
        detail = _Detail.model_validate(found)
    except ValidationError as error:
        raise refusal(error) from None
    family = (detail.definition or "").rpartition("/")[2].rpartition(":")[0]
    pool_id = family.removeprefix(f"{ours}-pool-")
    if pool_id == family or not ids.ULID.fullmatch(pool_id):
        return None
    if detail.status != "STOPPED":
        notice = TakenBack(pool_id=pool_id, task_arn=detail.task_arn)
        return notice if (detail.stop_code or "") in TAKEN_BACK else None
    worker = next((one for one in detail.containers or [] if one.name == ids.CONTAINER), _Container())
    return TaskStopped(
        pool_id=pool_id,
        launch_id=detail.started_by or "",
        task_arn=detail.task_arn,
        stop_code=detail.stop_code or "",
        stopped_reason=detail.stopped_reason or "",
        container_reason=worker.reason or "",
        exit_code=worker.exit_code,
        seconds=_billed(detail),
    )


def _billed(detail: _Detail) -> float | None:
    if not detail.stopped_at:
        return None
    return (detail.stopped_at - detail.pull_started_at).total_seconds() if detail.pull_started_at else 0.0


def task_stopped(ports: Ports, pools: Pools, event: TaskStopped) -> None:
    """Release the task's worker and its reservation, together and once, however often the event comes."""
    expires_at = ports.clock() + deadlines.GONE_RETENTION
    loss = Loss(reason=_reason(event), by="ecs", note=event.words.note[:120])
    failure = judge_start(event.words)
    worker_id = ids.worker_id(ports.namespace, event.pool_id, ids.task_id(event.task_arn))
    if worker := ports.store.worker(event.pool_id, worker_id):
        explained = explanation(ports, worker) if event.stop_code in TAKEN_BACK else ()
        runs_done = worker.runs_done
        how = Release(
            loss=loss,
            after=lambda found: _after(found, loss.note, expires_at),
            beside=lambda tries: (*_count(ports, event, failure, tries, runs_done), *explained),
        )
        release(ports, pools, event.pool_id, worker_id, how)
    else:
        _count_alone(ports, event, failure)
    match(ports, pools, event.pool_id)


def _after(worker: Worker, note: str, expires_at: datetime) -> Worker | None:
    """One that has done its runs leaves nothing but these; of any other it is kept why it went."""
    if worker.state is WorkerState.LEAVING:
        return None
    return worker if worker.left else gone(worker, note, expires_at)


def _count(ports: Ports, event: TaskStopped, failure: StartFailure, tries: int, runs: int = 0) -> tuple[Write, ...]:
    task, noted = ids.task_id(event.task_arn), failure if tries < NOTED else None
    return account(ports, event.pool_id, event.launch_id, task, noted, Taken(seconds=event.seconds, runs=runs))


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


def taken_back(ports: Ports, pools: Pools, event: TakenBack) -> None:
    """An idle worker takes no more runs; of a busy one it is noted, so that its run ends with the true reason.

    The run itself is its agent's: it has SIGTERM, and two minutes. Safe to repeat.
    """
    worker_id = ids.worker_id(ports.namespace, event.pool_id, ids.task_id(event.task_arn))
    for _ in range(TRIES):
        worker = ports.store.worker(event.pool_id, worker_id)
        if not worker or worker.taken_back or worker.state is WorkerState.GONE:
            return
        after, writes = warned(worker), explanation(ports, worker)
        if worker.state is WorkerState.IDLE:
            after = leaving(after, NOTICE, ports.clock() + deadlines.LEAVE)
            after, writes = replace(after, version=worker.version + 1), (marker_gone(worker),)
        try:
            ports.store.commit(Replace(after), *writes)
        except Lost:
            continue
        ports.log("capacity_taken_back", {"worker": worker_id, "was": worker.state, "run": worker.run})
        return
    raise Busy(f"worker {worker_id}: others kept writing")


def explanation(ports: Ports, worker: Worker) -> tuple[Write, ...]:
    """The write that gives the run which this worker has told as interrupted the reason that ECS tells; or none."""
    run = ports.store.run(worker.interrupted) if worker.interrupted else None
    if not run or not run.is_final or run.worker != worker.id or run.reason is not Reason.INTERRUPTED:
        return ()
    return (Replace(explained(run)),)


def _reason(event: TaskStopped) -> Reason:
    if "OutOfMemory" in event.container_reason:
        return Reason.OUT_OF_MEMORY
    if event.stop_code in TAKEN_BACK:
        return Reason.SPOT_INTERRUPTED
    return Reason.WORKER_LOST
