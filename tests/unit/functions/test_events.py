"""Every file in `events/` goes through the handler that it is named for, over a store in memory."""

import importlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from quaymaster.dispatcher.workers.task_events import TaskStopped, read_task_event
from quaymaster.domain import ids
from quaymaster.domain.messages import EVENTS
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import Marker, WorkerState
from quaymaster.ports import Create

from tests.shared.memory.function_world import (
    CONTEXT,
    EVENTS_FOLDER,
    FARGATE_ID,
    FUNCTIONS,
    LAUNCH_ID,
    NAMESPACE,
    POOL_ID,
    RUN_ID,
    STOPPED,
    WORKER_ID,
    World,
    environment,
    event,
    make_world,
)
from tests.shared.memory.records import a_worker

FILES = sorted(EVENTS_FOLDER.glob("*.json"))


@pytest.fixture
def template_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing but what Lambda and the template set, and functions that are not imported yet."""
    with environment(monkeypatch):
        yield


@pytest.fixture
def world(template_environment: None, monkeypatch: pytest.MonkeyPatch) -> World:
    """The functions with a private pool and a Fargate pool, whose one task is on its way."""
    return make_world(monkeypatch)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_is_read_by_its_handler(world: World, file: Path) -> None:
    """Only those that are malformed on purpose are refused."""
    world.handle(file.stem)
    malformed = {"dispatch_runs.batch", "receive_worker_events.malformed", "receive_worker_events.empty"}
    assert bool(world.queue.refused) is (file.stem in malformed)


@pytest.mark.usefixtures("template_environment")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_imported_with_the_template_s_environment_alone(function: str) -> None:
    """Its ports are made as it is imported, and nothing is asked of AWS by that."""
    assert callable(importlib.import_module(function).handler)


def test_there_is_a_file_for_each_function_and_each_message_of_an_agent() -> None:
    names = {file.stem for file in FILES}
    assert {name.partition(".")[0] for name in names} == set(FUNCTIONS)
    assert {f"receive_worker_events.{kind}" for kind in (*EVENTS, "connected", "disconnected")} <= names
    for name in names:
        found = event(name)
        if "event" in found and "clientId" not in found and not name.endswith((".malformed", ".empty")):
            assert name.partition(".")[2].startswith(found["event"])


def test_good_requests_of_a_batch_go_through_and_each_bad_one_is_refused_with_its_field(world: World) -> None:
    assert world.handle("dispatch_runs.batch") == {"batchItemFailures": []}
    by_mqtt = ids.run_id(POOL_ID, "plan-77")
    assert (world.run().state, world.run(by_mqtt).state) == (RunState.READY, RunState.READY)
    assert (world.run(by_mqtt).retryable, world.run(by_mqtt).type) == (True, "proposed")
    fields = [reason.partition(":")[0] for reason in world.reasons()]
    assert sorted(fields) == ["command", "pool", "request", "run_timeout", "run_timeout", "schema"]
    replies = {reply.message.id: reply.message.accepted for reply in world.messenger.replies}
    assert replies == {"plan-77": True, "plan-78": False}


def test_an_attempt_goes_from_registration_to_its_end(world: World) -> None:
    world.hear("registered", "connected")
    assert (world.worker().state, world.sent()) == (WorkerState.IDLE, ["welcome"])
    assert (world.worker().log_limit, world.worker().run_limit) == (timedelta(minutes=5), timedelta(hours=1))
    world.handle("dispatch_runs.batch")
    assert (world.run().state, world.run().worker, world.sent()) == (RunState.PREPARING, WORKER_ID, ["assign"])
    world.hear("preparing", "prepared")
    assert (world.run().state, world.sent()) == (RunState.RUNNING, ["go"])
    world.now += timedelta(seconds=60)
    world.hear("renew")
    assert (world.run().upload_failing, world.sent()) == (True, ["grants"])
    world.hear("phase_finished", "goodbye")
    ended = world.run()
    assert (ended.state, ended.reason, ended.exit_code) == (RunState.FAILED, Reason.EXIT_CODE, 2)
    assert ended.log
    assert (ended.log.lines, world.worker().state) == (412, WorkerState.GONE)


def test_a_run_handed_back_waits_for_the_next_worker(world: World) -> None:
    world.hear("registered")
    world.handle("dispatch_runs.batch")
    world.hear("handed_back")
    assert (world.run().state, world.run().attempt, world.worker().state) == (RunState.READY, 1, WorkerState.LEAVING)


def test_a_worker_that_registers_with_the_run_it_holds_gets_its_go_again(world: World) -> None:
    world.hear("registered")
    world.handle("dispatch_runs.batch")
    world.hear("prepared")
    world.sent()
    world.hear("registered_holding")
    assert (world.sent(), world.run().state) == (["welcome", "go"], RunState.RUNNING)


def test_a_lost_connection_is_only_asked_about(world: World) -> None:
    world.hear("registered")
    world.sent()
    world.hear("disconnected")
    assert (world.worker().state, world.sent(), world.store.idle(POOL_ID, 10)) == (WorkerState.ASKED, ["who"], [])


@pytest.mark.parametrize("name", ["malformed", "empty"])
def test_what_no_agent_says_is_a_dead_letter_and_never_comes_again(world: World, name: str) -> None:
    world.hear(name)
    assert len(world.reasons()) == 1
    assert json.loads(world.queue.refused[0].body) == event(f"receive_worker_events.{name}")


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("stopped", "Essential container in task exited (exit code 0)"),
        ("out_of_memory", "OutOfMemoryError: Container killed due to memory usage"),
        ("spot_interrupted", "Your Spot Task was interrupted."),
        ("failed_to_start", "Timeout waiting for network interface provisioning to complete."),
    ],
)
def test_a_stopped_task_gives_its_reservation_back_once(world: World, name: str, note: str) -> None:
    for _ in range(2):
        world.handle(f"receive_task_events.{name}")
    counters, starts = world.store.counters(FARGATE_ID), world.store.starts(FARGATE_ID)
    assert counters
    assert starts
    assert starts.trouble
    assert (counters.workers_reserved, starts.trouble.note, starts.trouble.times) == (0, note, 1)
    assert world.store.launch(FARGATE_ID, LAUNCH_ID) is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"containers": "hunter2"}, "containers"),
        ({"containers": ["hunter2"]}, "containers"),
        ({"containers": [{"name": "worker", "reason": ["hunter2"]}]}, "containers"),
        ({"taskArn": None}, "taskArn"),
        ({"taskArn": ""}, "taskArn"),
        ({"stopCode": {"a": "hunter2"}}, "stopCode"),
        ({"startedBy": 7}, "startedBy"),
    ],
)
def test_a_task_event_that_is_not_as_ecs_sends_it_is_kept_once_with_its_field(
    world: World, change: dict[str, Any], field: str
) -> None:
    before = world.store.records()
    importlib.import_module("receive_task_events").handler({"detail": {**STOPPED, **change}}, CONTEXT)
    (letter,) = world.queue.refused
    assert letter.attributes["source"] == "task events"
    assert letter.attributes["reason"].startswith(field)
    assert "hunter2" not in letter.attributes["reason"]
    assert world.store.records() == before


@pytest.mark.parametrize("event", [{}, {"detail": None}, {"detail": []}])
def test_an_event_without_a_detail_is_kept_too(world: World, event: dict[str, Any]) -> None:
    importlib.import_module("receive_task_events").handler(event, CONTEXT)
    assert [letter.attributes["source"] for letter in world.queue.refused] == ["task events"]


def test_a_running_task_changes_nothing(world: World) -> None:
    before = world.store.records()
    world.handle("receive_task_events.running")
    assert world.store.records() == before


def test_a_task_that_is_taken_back_gets_no_more_runs(world: World) -> None:
    task = ids.worker_id(NAMESPACE, FARGATE_ID, ids.task_id(STOPPED["taskArn"]))
    marker = Marker(random="m", worker=a_worker(id=task, pool_id=FARGATE_ID, state=WorkerState.IDLE, marker="m"))
    world.store.commit(Create(marker.worker), Create(marker))
    for _ in range(2):
        world.handle("receive_task_events.taken_back")
    found = world.store.worker(FARGATE_ID, task)
    assert found
    assert (found.state, found.taken_back, world.store.idle(FARGATE_ID, 9)) == (WorkerState.LEAVING, True, [])


def test_a_tick_sweeps_every_pool(world: World) -> None:
    assert world.handle("reap_overdue.tick") == {"due": 0, "failed": 0, "pools": 2}


def test_the_api_answers_a_function_url(world: World) -> None:
    listed = world.handle("serve_api.list_pools")
    assert (listed["statusCode"], [pool["name"] for pool in json.loads(listed["body"])["pools"]]) == (
        200,
        ["build", "cloud"],
    )
    accepted = world.handle("serve_api.start_run")
    assert (accepted["statusCode"], json.loads(accepted["body"])["run"]) == (202, RUN_ID)
    refused = world.handle("serve_api.refused_run")
    assert (refused["statusCode"], json.loads(refused["body"])["field"]) == (400, "run_timeout")


def the_stopped(detail: dict[str, Any]) -> TaskStopped:
    stopped = read_task_event(detail, NAMESPACE)
    assert isinstance(stopped, TaskStopped)
    return stopped


def test_the_reason_of_a_sidecar_is_not_taken_for_the_workers_and_fields_may_be_null(world: World) -> None:
    assert world.store.pool(FARGATE_ID)
    sidecar = {"name": "log-router", "reason": "OutOfMemoryError: not ours"}
    ours = {"name": "worker", "reason": "CannotPullContainerError: ours"}
    assert the_stopped({**STOPPED, "containers": [sidecar, ours]}).container_reason == ours["reason"]
    assert the_stopped({**STOPPED, "containers": [sidecar]}).container_reason == ""
    nothing = dict.fromkeys(("containers", "startedBy", "stopCode", "stoppedReason"))
    stopped = the_stopped({**STOPPED, **nothing})
    assert (stopped.launch_id, stopped.stop_code, stopped.stopped_reason, stopped.container_reason) == ("", "", "", "")
    assert read_task_event({**STOPPED, "taskDefinitionArn": None}, NAMESPACE) is None
