"""The operations of the ECS API: who may call them, what they do, and how they answer."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from quaymaster_local.ecs.callers import Caller, Callers, Permission
from quaymaster_local.ecs.definitions import Definitions
from quaymaster_local.ecs.errors import (
    ClusterNotFoundException,
    EcsError,
    InvalidParameterException,
    Unauthenticated,
    UnknownOperation,
)
from quaymaster_local.ecs.faults import OF_CALL, TAKE_BACK, FaultKind, Faults
from quaymaster_local.ecs.requests import RunRequest, check_overrides, read_run_request
from quaymaster_local.ecs.tasks.board import TaskBoard
from quaymaster_local.ecs.tasks.task import Task

type Document = Mapping[str, Any]

PAGE = 100
PASSED_TO_TASKS = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
# Answered by ministack's own ECS, once the caller is allowed to ask. AWS knows no resource for any of these.
FORWARDED = frozenset({"DeregisterTaskDefinition", "DescribeTaskDefinition", "ListTaskDefinitions", "DescribeClusters"})


class AnswerLost(EcsError):
    """The operation was carried out and its answer is not sent."""

    code = "ServerException"
    status = 500


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The ECS API over a task board and ministack's task definitions."""

    board: TaskBoard
    definitions: Definitions
    callers: Callers
    faults: Faults

    def answer(self, operation: str, caller: Caller, body: bytes) -> tuple[int, bytes]:
        """Carry out one operation; returns status and body. Raises EcsError."""
        document: Document = json.loads(body or b"{}")
        own = {
            "RunTask": self._run_task,
            "StopTask": self._stop_task,
            "DescribeTasks": self._describe_tasks,
            "ListTasks": self._list_tasks,
        }
        if operation in own:
            return 200, json.dumps(own[operation](caller, document)).encode()
        if operation == "RegisterTaskDefinition":
            self._check_register(caller, document)
        elif operation in FORWARDED:
            self._require(caller, operation, "*")
        else:
            raise UnknownOperation(f"the local cloud does not answer {operation}")
        return self.definitions.forward(operation, body)

    def order_fault(self, caller: Caller, document: Document) -> None:
        """Let the next RunTask go wrong as described, or take a task back; only root may."""
        if not caller.is_root:
            raise Unauthenticated("AccessDeniedException", "faults are ordered by root")
        if document["kind"] == TAKE_BACK:
            self.board.take_back(_task_id(document["task"]))
        else:
            self.faults.order(document)

    def _run_task(self, caller: Caller, document: Document) -> Document:
        request = read_run_request(document)
        definition = self.definitions.read(request.definition)
        check_overrides(request, definition)
        cluster_arn = self._cluster(request.cluster)
        self._check_run(caller, request, cluster_arn, definition.arn, definition.roles)
        fault = self.faults.take()
        if fault is not None and fault.kind is FaultKind.HANG:
            time.sleep(fault.seconds)
        if fault is not None and fault.kind is FaultKind.REFUSE:
            refused = EcsError(fault.message)
            refused.code = fault.code
            raise refused
        if fault is not None and fault.kind is FaultKind.FAIL:
            arn = f"{cluster_arn.replace(':cluster/', ':container-instance/')}/none"
            return {"tasks": [], "failures": [{"arn": arn, "reason": fault.message}] * request.count}
        fate = fault if fault is not None and fault.kind not in OF_CALL else None
        tasks = self.board.run(request, cluster_arn, definition, fate)
        if fault is not None and fault.kind is FaultKind.LOSE_ANSWER:
            raise AnswerLost("the answer was lost on purpose")
        return {"tasks": [task.as_answer() for task in tasks], "failures": []}

    def _stop_task(self, caller: Caller, document: Document) -> Document:
        task_arn, cluster_arn = self._task_arn(document, document.get("task"))
        self._require(caller, "StopTask", task_arn, cluster_arn)
        if _task_id(task_arn) not in self._in_cluster(cluster_arn, [task_arn]):
            raise InvalidParameterException("The referenced task was not found.")
        return {"task": self.board.stop(_task_id(task_arn), document.get("reason")).as_answer()}

    def _describe_tasks(self, caller: Caller, document: Document) -> Document:
        references: list[str] = list(document.get("tasks") or ())
        if not 1 <= len(references) <= PAGE:
            raise InvalidParameterException(f"Tasks must name between 1 and {PAGE} tasks.")
        arns = [self._task_arn(document, one)[0] for one in references]
        cluster_arn = self._cluster(document.get("cluster") or "default")
        for arn in arns:
            self._require(caller, "DescribeTasks", arn, cluster_arn)
        found = self._in_cluster(cluster_arn, arns)
        with_tags = "TAGS" in (document.get("include") or ())
        shown: list[Document] = [found[_task_id(arn)].as_answer() for arn in arns if _task_id(arn) in found]
        if not with_tags:
            shown = [{**task, "tags": []} for task in shown]
        missing = [{"arn": arn, "reason": "MISSING"} for arn in arns if _task_id(arn) not in found]
        return {"tasks": shown, "failures": missing}

    def _list_tasks(self, caller: Caller, document: Document) -> Document:
        cluster_arn = self._cluster(document.get("cluster") or "default")
        self._require(caller, "ListTasks", f"{cluster_arn.replace(':cluster/', ':container-instance/')}/*", cluster_arn)
        desired = document.get("desiredStatus") or "RUNNING"
        started_by, family = document.get("startedBy"), document.get("family")

        now = datetime.now(UTC)

        def wanted(task: Task) -> bool:
            return (
                (task.listed_from is None or now >= task.listed_from)
                and task.cluster_arn == cluster_arn
                and task.desired == desired
                and started_by in (None, task.started_by)
                and family in (None, task.definition.family)
            )

        arns = [task.arn for task in self.board.tasks(wanted)]
        start, size = int(document.get("nextToken") or 0), int(document.get("maxResults") or PAGE)
        page: dict[str, Any] = {"taskArns": arns[start : start + size]}
        if start + size < len(arns):
            page["nextToken"] = str(start + size)
        return page

    def _check_run(
        self, caller: Caller, request: RunRequest, cluster_arn: str, definition_arn: str, roles: list[str]
    ) -> None:
        self._require(caller, "RunTask", definition_arn, cluster_arn)
        if request.tags:
            tagged = f"{cluster_arn.replace(':cluster/', ':task/')}/*"
            context = {"ecs:CreateAction": "RunTask"}
            self.callers.require(caller, Permission(action="ecs:TagResource", resources=[tagged], context=context))
        self._check_pass(caller, roles)

    def _check_register(self, caller: Caller, document: Document) -> None:
        self._require(caller, "RegisterTaskDefinition", "*")
        roles = {document.get("executionRoleArn"), document.get("taskRoleArn")}
        self._check_pass(caller, sorted(role for role in roles if role))

    def _check_pass(self, caller: Caller, roles: list[str]) -> None:
        if roles:
            self.callers.require(caller, Permission(action="iam:PassRole", resources=roles, context=PASSED_TO_TASKS))

    def _require(self, caller: Caller, operation: str, resource: str, cluster_arn: str | None = None) -> None:
        context = {"ecs:cluster": cluster_arn} if cluster_arn else {}
        self.callers.require(caller, Permission(action=f"ecs:{operation}", resources=[resource], context=context))

    def _cluster(self, reference: str) -> str:
        arn = self.definitions.cluster_arn(reference)
        if arn is None:
            raise ClusterNotFoundException("Cluster not found.")
        return arn

    def _task_arn(self, document: Document, reference: str | None) -> tuple[str, str]:
        if not reference:
            raise InvalidParameterException("Task cannot be empty.")
        cluster_arn = self._cluster(document.get("cluster") or "default")
        full = reference.startswith("arn:")
        return (reference if full else f"{cluster_arn.replace(':cluster/', ':task/')}/{reference}"), cluster_arn

    def _in_cluster(self, cluster_arn: str, arns: list[str]) -> dict[str, Task]:
        found = self.board.find(_task_id(arn) for arn in arns)
        return {task_id: task for task_id, task in found.items() if task.cluster_arn == cluster_arn}


def _task_id(arn: str) -> str:
    return arn.rsplit("/", 1)[-1]
