"""The board of tasks: starts them, follows each to its end, and tells every change."""

from __future__ import annotations

import dataclasses
import logging
import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from quaymaster_local.ecs.definitions import Definition
from quaymaster_local.ecs.errors import ConflictException, InvalidParameterException
from quaymaster_local.ecs.faults import Fault, FaultKind
from quaymaster_local.ecs.requests import RunRequest
from quaymaster_local.ecs.tasks.containers import Container, ContainerHost
from quaymaster_local.ecs.tasks.events import TaskEvents
from quaymaster_local.ecs.tasks.secrets import Secrets, SecretsUnavailable
from quaymaster_local.ecs.tasks.task import StopCode, Task, TaskStatus

log = logging.getLogger(__name__)

REMEMBERED = timedelta(hours=1)
CLOSE_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a board works with. `start_delay` is what Fargate takes, shortened."""

    host: ContainerHost
    secrets: Secrets
    events: TaskEvents
    start_delay: timedelta


@dataclass(kw_only=True)
class _Slot:
    """A task and what only the board knows of it. `gate` is held while its container is started or stopped."""

    task: Task
    stop: threading.Event = field(default_factory=threading.Event)
    gate: threading.Lock = field(default_factory=threading.Lock)
    container: Container | None = None
    thread: threading.Thread | None = None
    fault: Fault | None = None


class TaskBoard:
    """All tasks of one local cloud. Stopped ones are remembered for an hour. Safe to use from many threads."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        self._slots: dict[str, _Slot] = {}
        self._tokens: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._lock = threading.RLock()
        self._closed = False

    def run(
        self, request: RunRequest, cluster_arn: str, definition: Definition, fault: Fault | None = None
    ) -> list[Task]:
        """Start `request.count` tasks and return them, or those that the same client token started before.

        `fault` is what goes wrong with them. Raises ConflictException if the token came
        with other parameters.
        """
        with self._lock:
            repeated = self._repeated(request)
            if repeated is not None:
                return repeated
            tasks = [self._new_task(request, cluster_arn, definition, fault) for _ in range(request.count)]
            if request.client_token:
                self._tokens[request.client_token] = (request.digest, tuple(task.id for task in tasks))
            for task in tasks:
                slot = _Slot(task=task, fault=fault)
                self._slots[task.id] = slot
                self._around.events.put(task.as_detail(), fault)
                slot.thread = threading.Thread(target=self._live, args=(slot,), name=f"task-{task.id[:8]}", daemon=True)
                slot.thread.start()
            return [dataclasses.replace(task) for task in tasks]

    def stop(self, task_id: str, reason: str | None, code: StopCode = StopCode.USER_INITIATED) -> Task:
        """Ask a task to stop: SIGTERM, and SIGKILL after its stop timeout. Stopping it again changes nothing."""
        with self._lock:
            slot = self._slots.get(task_id)
        if slot is None:
            raise InvalidParameterException("The referenced task was not found.")
        with slot.gate:
            if not slot.stop.is_set() and not slot.task.ended:
                self._request_stop(slot, reason or "Task stopped by user", code)
            return dataclasses.replace(slot.task)

    def take_back(self, task_id: str) -> None:
        """Want a task's Spot capacity back: an event while it runs, SIGTERM, and SIGKILL after its stop timeout."""
        self.stop(task_id, "Your Spot Task was interrupted.", StopCode.SPOT_INTERRUPTION)

    def tasks(self, wanted: Callable[[Task], bool]) -> list[Task]:
        """Copies of the remembered tasks that the predicate wants, oldest first."""
        with self._lock:
            self._forget_old()
            return [dataclasses.replace(slot.task) for slot in self._slots.values() if wanted(slot.task)]

    def find(self, ids: Iterable[str]) -> dict[str, Task]:
        """Copies of the tasks with these ids."""
        wanted = set(ids)
        return {task.id: task for task in self.tasks(lambda task: task.id in wanted)}

    def close(self) -> None:
        """Kill every container at once and accept nothing more."""
        with self._lock:
            self._closed = True
            slots = list(self._slots.values())
        for slot in slots:
            with slot.gate:
                slot.stop.set()
                if slot.container is not None:
                    slot.container.kill()
        for slot in slots:
            if slot.thread is not None:
                slot.thread.join(CLOSE_SECONDS)

    def _repeated(self, request: RunRequest) -> list[Task] | None:
        if request.client_token is None or request.client_token not in self._tokens:
            return None
        digest, ids = self._tokens[request.client_token]
        tasks = [dataclasses.replace(self._slots[one].task) for one in ids if one in self._slots]
        if digest != request.digest:
            arns = [task.arn for task in tasks]
            raise ConflictException("The clientToken was already used with different parameters.", arns)
        return tasks

    def _new_task(self, request: RunRequest, cluster_arn: str, definition: Definition, fault: Fault | None) -> Task:
        now = datetime.now(UTC)
        return Task(
            id=uuid.uuid4().hex,
            cluster_arn=cluster_arn,
            definition=definition,
            started_by=request.started_by,
            group=request.group or f"family:{definition.family}",
            overrides=request.overrides,
            environment=request.environment_over(definition.environment),
            command=request.command_over(definition.command),
            cpu=str(request.overrides.get("cpu") or definition.cpu),
            memory=str(request.overrides.get("memory") or definition.memory),
            tags=request.tags,
            created_at=now,
            listed_from=now + fault.span(FaultKind.UNLISTED) if fault else None,
        )

    def _live(self, slot: _Slot) -> None:
        half = self._around.start_delay.total_seconds() / 2
        slot.stop.wait(half + (slot.fault.span(FaultKind.SLOW_START).total_seconds() if slot.fault else 0))
        self._change(slot, status=TaskStatus.PENDING, pull_started_at=datetime.now(UTC))
        try:
            secrets = self._around.secrets.resolve(slot.task.definition)
            slot.stop.wait(half)
            container = self._start_container(slot, {**slot.task.environment, **secrets})
        except (SecretsUnavailable, OSError) as error:
            return self._fail(slot, str(error))
        except Exception as error:  # the thread is the task: whatever breaks it must end the task, visibly
            log.exception("task %s could not be started", slot.task.id)
            return self._fail(slot, f"InternalError: {error!r}")
        if container is None:
            return self._fail(slot, slot.fault.message if slot.fault else None)
        self._end(slot, exit_code=container.wait())

    def _start_container(self, slot: _Slot, environment: dict[str, str]) -> Container | None:
        # A stop comes either before the start or after it, and close() sees every container.
        with slot.gate:
            if slot.stop.is_set() or self._closed or (slot.fault and slot.fault.keeps_from_starting):
                return None
            slot.container = self._around.host.start(slot.task, environment)
            self._change(slot, status=TaskStatus.RUNNING, pid=slot.container.pid, started_at=datetime.now(UTC))
            return slot.container

    def _request_stop(self, slot: _Slot, reason: str, code: StopCode) -> None:
        now = datetime.now(UTC)
        stopping = {"stop_code": code, "stopped_reason": reason, "stopping_at": now}
        self._change(slot, desired=TaskStatus.STOPPED, **stopping)
        slot.stop.set()
        if slot.container is not None:
            slot.container.terminate()
            killer = threading.Timer(slot.task.definition.stop_timeout_seconds, slot.container.kill)
            killer.daemon = True
            killer.start()

    def _fail(self, slot: _Slot, reason: str | None) -> None:
        if slot.task.stop_code is None:
            told: dict[str, Any] = {"stop_code": StopCode.TASK_FAILED_TO_START, "stopped_reason": reason}
            if slot.fault and slot.fault.kind is FaultKind.PULL_FAILS:
                told |= {"stopped_reason": "Task failed to start", "container_reason": reason}
            self._change(slot, stopping_at=datetime.now(UTC), **told)
        self._end(slot, exit_code=None)

    def _end(self, slot: _Slot, exit_code: int | None) -> None:
        with self._lock:
            changes: dict[str, Any] = {"exit_code": exit_code, "desired": TaskStatus.STOPPED}
            if slot.task.stop_code is None:
                changes["stop_code"] = StopCode.ESSENTIAL_CONTAINER_EXITED
                changes["stopped_reason"] = "Essential container in task exited"
                changes["stopping_at"] = datetime.now(UTC)
            self._change(slot, status=TaskStatus.DEPROVISIONING, **changes)
            self._change(slot, status=TaskStatus.STOPPED, stopped_at=datetime.now(UTC))

    def _change(self, slot: _Slot, **changes: Any) -> None:
        with self._lock:
            slot.task = dataclasses.replace(slot.task, version=slot.task.version + 1, **changes)
            if not self._closed:
                self._around.events.put(slot.task.as_detail(), slot.fault)

    def _forget_old(self) -> None:
        horizon = datetime.now(UTC) - REMEMBERED
        for task_id, slot in list(self._slots.items()):
            if slot.task.stopped_at is not None and slot.task.stopped_at < horizon:
                del self._slots[task_id]
