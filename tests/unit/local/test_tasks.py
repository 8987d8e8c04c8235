"""The task board, with containers that end when they are told to."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from quaymaster_local.ecs.definitions import Definition
from quaymaster_local.ecs.errors import ConflictException, InvalidParameterException
from quaymaster_local.ecs.faults import Fault
from quaymaster_local.ecs.requests import RunRequest, check_overrides, read_run_request
from quaymaster_local.ecs.tasks.board import Surroundings, TaskBoard
from quaymaster_local.ecs.tasks.containers import ContainerHost
from quaymaster_local.ecs.tasks.events import TaskEvents, task_event
from quaymaster_local.ecs.tasks.secrets import Secrets, SecretsUnavailable
from quaymaster_local.ecs.tasks.task import Task

CLUSTER = "arn:aws:ecs:us-east-1:000000000000:cluster/quaymaster"
DEFINITION = Definition(
    arn="arn:aws:ecs:us-east-1:000000000000:task-definition/workers:3",
    family="workers",
    cpu="256",
    memory="512",
    container="worker",
    image="worker:1",
    command=(),
    environment={"A": "definition", "B": "definition"},
    secrets={},
    stop_timeout_seconds=0.2,
    execution_role_arn=None,
    task_role_arn=None,
)


class FakeContainer:
    """Ends with 143 on SIGTERM unless it is stubborn, with 137 when killed, or as a test says."""

    def __init__(self, stubborn: bool) -> None:
        self.pid = 4711
        self.stubborn = stubborn
        self.ends: queue.Queue[int] = queue.Queue()

    def terminate(self) -> None:
        if not self.stubborn:
            self.ends.put(143)

    def kill(self) -> None:
        self.ends.put(137)

    def wait(self) -> int:
        return self.ends.get(timeout=60)


@dataclass
class FakeHost:
    """Starts fake containers and remembers with which environment."""

    stubborn: bool = False
    started: list[tuple[Task, Mapping[str, str], FakeContainer]] = field(
        default_factory=list[tuple[Task, Mapping[str, str], FakeContainer]]
    )

    def start(self, task: Task, environment: Mapping[str, str]) -> FakeContainer:
        container = FakeContainer(self.stubborn)
        self.started.append((task, environment, container))
        return container


class FakeSecrets:
    """Resolves nothing, or fails with a reason."""

    def __init__(self, reason: str | None = None) -> None:
        self.reason = reason

    def resolve(self, definition: Definition) -> Mapping[str, str]:
        if self.reason:
            raise SecretsUnavailable(self.reason)
        return {"TOKEN": "secret"}


class KeptEvents:
    """Keeps what was told."""

    def __init__(self) -> None:
        self.details: list[Mapping[str, Any]] = []

    def put(self, detail: Mapping[str, Any], fault: Fault | None = None) -> None:
        self.details.append(detail)


@dataclass
class Harness:
    board: TaskBoard
    host: FakeHost
    events: KeptEvents

    def ended(self, task: Task) -> Task:
        """The task, once it has stopped."""
        until(lambda: self.board.find([task.id])[task.id].ended)
        return self.board.find([task.id])[task.id]


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def harness(*, delay: float = 0.0, stubborn: bool = False, secrets: FakeSecrets | None = None) -> Harness:
    host, events = FakeHost(stubborn), KeptEvents()
    around = Surroundings(
        host=cast(ContainerHost, host),
        secrets=cast(Secrets, secrets or FakeSecrets()),
        events=cast(TaskEvents, events),
        start_delay=timedelta(seconds=delay),
    )
    return Harness(TaskBoard(around), host, events)


def request(**change: Any) -> RunRequest:
    network = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
    return read_run_request({"taskDefinition": "workers", "networkConfiguration": network, **change})


def test_a_task_stopped_while_it_is_provisioned_never_starts_a_container() -> None:
    it = harness(delay=60)
    (task,) = it.board.run(request(), CLUSTER, DEFINITION)
    it.board.stop(task.id, None)
    ended = it.ended(task)
    assert it.host.started == []
    assert (ended.stop_code, ended.stopped_reason, ended.exit_code) == ("UserInitiated", "Task stopped by user", None)


def test_the_container_gets_definition_override_and_secrets_in_this_order() -> None:
    it = harness()
    environment = [{"name": "B", "value": "override"}]
    overrides = {"containerOverrides": [{"name": "worker", "environment": environment, "command": ["--once"]}]}
    it.board.run(request(overrides=overrides), CLUSTER, DEFINITION)
    until(lambda: bool(it.host.started))
    task, given, container = it.host.started[0]
    assert given == {"A": "definition", "B": "override", "TOKEN": "secret"}
    assert task.command == ("--once",)
    container.ends.put(0)
    assert it.ended(task).exit_code == 0


def test_an_exit_code_is_told_in_the_last_of_five_events() -> None:
    it = harness()
    (task,) = it.board.run(request(startedBy="launch"), CLUSTER, DEFINITION)
    until(lambda: bool(it.host.started))
    it.host.started[0][2].ends.put(7)
    it.ended(task)
    assert [detail["version"] for detail in it.events.details] == [1, 2, 3, 4, 5]
    last = it.events.details[-1]
    assert last["containers"][0]["exitCode"] == 7
    assert last["stoppedReason"] == "Essential container in task exited"


def test_what_ignores_sigterm_is_killed_after_the_stop_timeout() -> None:
    it = harness(stubborn=True)
    (task,) = it.board.run(request(), CLUSTER, DEFINITION)
    until(lambda: bool(it.host.started))
    it.board.stop(task.id, "enough")
    ended = it.ended(task)
    assert (ended.exit_code, ended.stopped_reason) == (137, "enough")


def test_stopping_twice_changes_nothing_the_second_time() -> None:
    it = harness(delay=60)
    (task,) = it.board.run(request(), CLUSTER, DEFINITION)
    it.board.stop(task.id, "first")
    version = it.ended(task).version
    again = it.board.stop(task.id, "second")
    assert (again.stopped_reason, again.version) == ("first", version)


def test_a_secret_that_cannot_be_read_is_the_stopped_reason_of_a_task_without_containers() -> None:
    it = harness(secrets=FakeSecrets("ResourceInitializationError: no"))
    (task,) = it.board.run(request(), CLUSTER, DEFINITION)
    shown = it.ended(task).as_detail()
    assert (shown["stopCode"], shown["stoppedReason"]) == ("TaskFailedToStart", "ResourceInitializationError: no")
    assert shown["containers"] == []


def test_the_same_client_token_finds_its_tasks_and_refuses_other_parameters() -> None:
    it = harness(delay=60)
    first = it.board.run(request(clientToken="t", count=2), CLUSTER, DEFINITION)
    again = it.board.run(request(clientToken="t", count=2), CLUSTER, DEFINITION)
    assert [task.id for task in again] == [task.id for task in first]
    with pytest.raises(ConflictException) as conflict:
        it.board.run(request(clientToken="t", count=3), CLUSTER, DEFINITION)
    assert conflict.value.resource_ids == tuple(task.arn for task in first)
    it.board.close()


def test_one_token_from_many_threads_starts_one_task() -> None:
    it = harness(delay=60)
    found: set[str] = set()

    def ask() -> None:
        found.update(task.id for task in it.board.run(request(clientToken="t"), CLUSTER, DEFINITION))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    it.board.close()


def test_closing_kills_what_runs() -> None:
    it = harness(stubborn=True)
    it.board.run(request(count=3), CLUSTER, DEFINITION)
    until(lambda: len(it.host.started) == 3)
    it.board.close()
    assert all(task.exit_code in (None, 137) for task in it.board.tasks(lambda _: True))


def test_a_task_that_stopped_an_hour_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    it = harness()
    (task,) = it.board.run(request(), CLUSTER, DEFINITION)
    until(lambda: bool(it.host.started))
    it.host.started[0][2].ends.put(0)
    it.ended(task)
    monkeypatch.setattr("quaymaster_local.ecs.tasks.board.REMEMBERED", timedelta(seconds=-1))
    assert it.board.tasks(lambda _: True) == []


def test_a_task_that_was_never_started_is_not_found() -> None:
    with pytest.raises(InvalidParameterException):
        harness().board.stop("none", None)


@pytest.mark.parametrize(
    "change",
    [
        {"taskDefinition": ""},
        {"count": 11},
        {"networkConfiguration": None},
        {"launchType": "FARGATE", "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT"}]},
        {"clientToken": "x" * 65},
        {"startedBy": "x" * 129},
    ],
)
def test_a_wrong_parameter_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterException):
        request(**change)


def test_an_override_of_a_container_that_is_not_there_is_refused() -> None:
    overridden = request(overrides={"containerOverrides": [{"name": "other"}]})
    with pytest.raises(InvalidParameterException, match="other is not a container"):
        check_overrides(overridden, DEFINITION)


def test_an_event_is_shaped_as_eventbridge_shapes_it() -> None:
    created = datetime(2030, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
    task = Task(
        id="a" * 32,
        cluster_arn=CLUSTER,
        definition=DEFINITION,
        started_by="launch",
        group="family:workers",
        overrides={},
        environment={"TOKEN": "hunter2"},
        command=(),
        cpu="256",
        memory="512",
        tags=(),
        created_at=created,
    )
    event = task_event(task.as_detail())
    assert (event["source"], event["detail-type"]) == ("aws.ecs", "ECS Task State Change")
    assert event["resources"] == [f"arn:aws:ecs:us-east-1:000000000000:task/quaymaster/{'a' * 32}"]
    assert event["detail"]["createdAt"] == "2030-01-02T03:04:05.678Z"
    assert "hunter2" not in repr(task) + repr(event)
