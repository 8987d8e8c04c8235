"""Pools whose workers are tasks: started for demand, within a limit, once, and stopped once."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from quaymaster.domain import ids
from quaymaster.domain.pool import Launch, PoolKind
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import WorkerState
from quaymaster.errors import Refused, Unavailable

from tests.shared.memory.agents import FakeAgent, agent, settle_down, unheard
from tests.shared.memory.invariants import check
from tests.shared.memory.world import Crash, World, crash_before


def fargate(**settings: Any) -> World:
    return World(PoolKind.FARGATE, **settings)


def launches(world: World) -> list[Launch]:
    return world.table.launches(world.pool.id)


def said(world: World) -> str | None:
    """What ECS last said against starting tasks."""
    return world.shown().launch_note


def task_agent(world: World, arn: str, **fields: Any) -> FakeAgent:
    """The agent in a task; it has not registered yet."""
    return agent(world, ids.task_id(arn), launch=world.tasks.tasks[arn].launch_id, **fields)


def started(world: World, **fields: Any) -> list[FakeAgent]:
    """Agents of all tasks that run, registered."""
    agents = [task_agent(world, task.arn, **fields) for task in world.tasks.running]
    for one in agents:
        one.register()
    settle_down(world, *agents)
    return agents


def arn_of(world: World, one: FakeAgent) -> str:
    name = ids.worker_name(one.worker_id)
    return next(arn for arn in world.tasks.tasks if ids.task_id(arn) == name)


# Starting.


def test_a_run_without_a_worker_starts_a_task_which_takes_it_and_is_stopped_after_it():
    world = fargate()
    run = world.submit()
    (launch,) = launches(world)
    assert (launch.count, launch.answered, len(launch.tasks), world.reserved()) == (1, True, 1, 1)
    check(world)
    (one,) = started(world)
    assert one.begun == [(run.id, 1)]
    assert launches(world)[0].joined == (ids.worker_name(one.worker_id),)
    check(world)
    one.finish()
    assert world.run("r1").state is RunState.FINISHED
    assert world.worker(one.worker_id).state is WorkerState.LEAVING
    assert world.tasks.running == []
    assert world.reserved() == 1
    world.stop_task(arn_of(world, one))
    # All that is left of them is the run.
    assert (world.table.worker(world.pool.id, one.worker_id), launches(world), world.reserved()) == (None, [], 0)
    check(world)


def test_tasks_are_started_for_what_waits_and_no_more_than_the_limit_allows():
    world = fargate(max_workers=13)
    for number in range(20):
        world.submit(f"r{number}")
        check(world)
    assert (len(world.tasks.running), world.reserved()) == (13, 13)
    world.sweep(after=60)
    assert len(world.tasks.running) == 13


def test_a_batch_is_served_by_calls_of_ten_tasks_at_most():
    world = fargate(max_workers=50)
    bodies = [{"schema": 1, "id": f"r{n}", "pool": world.pool.name, "command": ["true"]} for n in range(10)]
    world.request(*bodies)
    assert [launch.count for launch in launches(world)] == [10]
    world.tasks.tasks.clear()
    other = fargate(max_workers=50)
    crash_before(other, "launches")
    for number in range(25):
        with pytest.raises(Crash):
            other.submit(f"r{number}")
    crash_before(other, "nothing")
    other.sweep(after=1)
    assert sorted(launch.count for launch in launches(other)) == [5, 10, 10]
    check(other)


def test_a_task_on_its_way_counts_against_demand():
    world = fargate()
    world.submit("r1")
    for _ in range(3):
        world.sweep(after=60)
    world.submit("r1")
    assert len(world.tasks.running) == 1
    world.submit("r2")
    assert len(world.tasks.running) == 2
    check(world)


def test_a_private_pool_starts_nothing():
    world = World()
    world.submit()
    world.sweep(after=60)
    assert world.tasks.calls == 0


def test_what_ecs_refuses_is_given_back_and_asked_for_again_by_the_next_sweep():
    world = fargate()
    world.tasks.capacity = 0
    world.submit()
    assert (launches(world), said(world), world.reserved()) == ([], "RESOURCE:CPU", 0)
    check(world)
    world.tasks.capacity = 5
    world.sweep(after=60)
    started(world)
    assert world.run("r1").state is RunState.RUNNING
    check(world)


def test_a_call_that_ecs_will_never_take_is_given_back_with_its_reason():
    world = fargate()
    world.tasks.error = Refused("task", "no such role", "roles that exist")
    world.submit()
    assert (launches(world), world.reserved()) == ([], 0)
    assert "no such role" in (said(world) or "")
    check(world)
    world.sweep(after=60)
    assert len(world.tasks.running) == 1


def test_a_call_that_is_served_in_part_keeps_the_part():
    world = fargate()
    world.tasks.capacity = 2
    world.request(*[{"schema": 1, "id": f"r{n}", "pool": world.pool.name, "command": ["true"]} for n in range(5)])
    (launch,) = launches(world)
    assert (launch.count, len(launch.tasks), world.reserved()) == (2, 2, 2)
    check(world)


@pytest.mark.parametrize("made", [True, False])
def test_a_call_whose_answer_is_unknown_is_repeated_with_the_same_token_until_it_is(made: bool):
    world = fargate()
    world.tasks.error, world.tasks.answer_lost = Unavailable("ecs", "no answer"), made
    world.submit()
    (launch,) = launches(world)
    assert (launch.answered, world.reserved(), len(world.tasks.running)) == (False, 1, int(made))
    check(world)
    world.sweep(after=16)
    (after,) = launches(world)
    assert (after.answered, after.token, len(world.tasks.running)) == (True, launch.token, 1)
    assert world.reserved() == 1
    started(world)
    assert world.run("r1").state is RunState.RUNNING
    check(world)


def test_a_crash_between_the_reservation_and_the_call_is_made_good_by_the_sweep():
    world = fargate()

    def crash(name: str) -> None:
        if name == "launches" and world.reserved():
            raise Crash

    world.store.before = crash
    with pytest.raises(Crash):
        world.submit()
    world.store.before = lambda name: None
    assert (world.reserved(), world.tasks.calls) == (1, 0)
    check(world)
    world.sweep(after=16)
    assert len(world.tasks.running) == 1
    check(world)


def test_a_worker_may_register_and_a_task_may_stop_before_the_answer_of_its_call_is_written():
    world = fargate()
    world.tasks.error, world.tasks.answer_lost = Unavailable("ecs", "no answer"), True
    world.submit("r1")
    world.tasks.error, world.tasks.answer_lost = Unavailable("ecs", "no answer"), True
    world.submit("r2")
    one, two = started(world)
    world.stop_task(arn_of(world, two))
    check(world)
    assert all(not launch.answered for launch in launches(world))
    world.sweep(after=31)
    (left,) = launches(world)
    assert (left.answered, left.tasks) == (True, (arn_of(world, one),))
    assert one.begun
    check(world)


def test_two_dispatchers_that_meet_reserve_no_more_than_the_limit():
    world = fargate(max_workers=1)

    def meet(name: str) -> None:
        if name == "launches":
            world.store.before = lambda call: None
            world.submit("r2")

    world.store.before = meet
    world.submit("r1")
    assert (len(world.tasks.running), world.reserved()) == (1, 1)
    check(world)


# Tasks that stop.


def test_a_task_that_stops_before_its_worker_registered_is_counted_once_and_replaced():
    world = fargate()
    world.submit()
    (task,) = world.tasks.running
    world.stop_task(task.arn, stopped_reason="CannotPullContainerError: no such image")
    assert len(world.tasks.running) == 1
    (second,) = launches(world)
    assert "CannotPull" in (said(world) or "")
    assert second.starting == 1
    world.stop_task(task.arn)
    assert (world.reserved(), len(world.tasks.running)) == (1, 1)
    check(world)


def test_starts_that_keep_failing_come_ever_more_rarely_and_go_on_once_they_work():
    world = fargate()
    world.submit()
    for _ in range(120):
        for task in world.tasks.running:
            world.stop_task(task.arn, stopped_reason="CannotPullContainerError: i/o timeout")
        world.sweep(after=60)
    assert 8 <= world.tasks.calls <= 16
    assert world.run("r1").state is RunState.READY
    for _ in range(16):
        world.sweep(after=60)
    started(world)
    assert world.run("r1").state is RunState.RUNNING
    check(world)


def test_a_task_that_stops_before_go_gives_its_run_to_another():
    world = fargate()
    run = world.submit()
    (one,) = started(world, prompt=False)
    world.stop_task(arn_of(world, one), stop_code="SpotInterruption")
    assert (world.run("r1").state, world.run("r1").losses) == (RunState.READY, 1)
    check(world)
    (two,) = started(world)
    assert two.begun == [(run.id, 2)]
    check(world)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"stop_code": "SpotInterruption"}, Reason.SPOT_INTERRUPTED),
        ({"container_reason": "OutOfMemoryError: killed"}, Reason.OUT_OF_MEMORY),
        ({"stop_code": "EssentialContainerExited"}, Reason.WORKER_LOST),
    ],
)
def test_a_task_that_stops_after_go_ends_its_run_with_the_reason(fields: dict[str, str], reason: Reason):
    world = fargate()
    world.submit()
    (one,) = started(world)
    one.write("so far")
    for _ in range(3):
        world.stop_task(arn_of(world, one), **fields)
        check(world)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, reason)
    assert world.worker(one.worker_id).state is WorkerState.GONE
    assert world.reserved() == 0


def test_a_task_that_stops_behind_an_end_marker_leaves_its_run_finished():
    world = fargate()
    world.submit()
    (one,) = started(world)
    one.publish = unheard
    one.finish()
    world.stop_task(arn_of(world, one))
    assert world.run("r1").state is RunState.FINISHED
    check(world)


def test_the_event_of_a_task_whose_worker_said_goodbye_counts_once():
    world = fargate(idle_timeout=timedelta(hours=1))
    world.submit()
    (one,) = started(world)
    one.leaving = True
    one.finish()
    settle_down(world, one)
    one.terminate()
    assert (world.worker(one.worker_id).state, world.reserved()) == (WorkerState.LEAVING, 1)
    for _ in range(2):
        world.stop_task(arn_of(world, one))
        assert world.reserved() == 0
        check(world)


def test_a_late_registration_from_a_task_that_has_stopped_makes_no_worker():
    world = fargate()
    world.submit()
    (task,) = world.tasks.running
    ghost = task_agent(world, task.arn)
    world.stop_task(task.arn)
    ghost.register()
    assert world.table.worker(world.pool.id, ghost.worker_id) is None
    assert world.counted("event_ignored") == 1
    check(world)


def test_an_event_of_a_task_of_no_launch_changes_nothing():
    world = fargate()
    world.submit()
    (task,) = world.tasks.running
    world.tasks.tasks[task.arn] = replace(task, launch_id="")
    before = world.table.records()
    world.stop_task(task.arn)
    assert [record for record in before if record not in world.table.records()] == []


def test_the_same_registration_twice_joins_once():
    world = fargate()
    world.submit()
    (one,) = started(world, prompt=False)
    one.register()
    (launch,) = launches(world)
    assert len(launch.joined) == 1
    assert (world.worker(one.worker_id).task_arn,) == launch.tasks
    world.disconnect(one.worker_id)
    world.wait(16)
    world.ring()
    settle_down(world, one)
    assert world.worker(one.worker_id).state is not WorkerState.ASKED
    assert [len(found.joined) for found in launches(world) if found.id == launch.id] == [1]
    check(world)


# Workers that live longer, or shorter.


def test_a_worker_takes_as_many_runs_as_the_pool_says():
    world = fargate(runs_per_worker=2, max_workers=1)
    for number in range(3):
        world.submit(f"r{number}")
        world.wait(1)
    (one,) = started(world)
    one.finish()
    settle_down(world, one)
    assert len(one.begun) == 2
    check(world)
    one.finish()
    assert world.worker(one.worker_id).state is WorkerState.LEAVING
    assert world.run("r2").state is RunState.READY
    world.stop_task(arn_of(world, one))
    assert len(world.tasks.running) == 1
    started(world)
    assert world.run("r2").state is RunState.RUNNING
    check(world)


def test_an_idle_task_is_stopped_after_the_idle_timeout_and_gets_no_run_from_then_on():
    world = fargate(runs_per_worker=5)
    world.submit()
    (one,) = started(world)
    one.finish()
    settle_down(world, one)
    world.sweep(after=4 * 60)
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    world.sweep(after=61)
    assert world.worker(one.worker_id).state is WorkerState.LEAVING
    assert world.tasks.running == []
    check(world)
    world.stop_task(arn_of(world, one))
    assert world.reserved() == 0
    check(world)


def test_a_stop_that_failed_is_tried_again_by_the_sweep():
    world = fargate()
    world.submit()
    (one,) = started(world)
    world.tasks.down = "no ECS"
    one.finish()
    settle_down(world, one)
    assert len(world.tasks.running) == 1
    assert not one.unanswered
    world.tasks.down = None
    world.sweep(after=60)
    assert world.tasks.running == []


def test_a_killed_task_is_stopped_as_well():
    world = fargate()
    world.submit(run_timeout="5m")
    (one,) = started(world)
    world.sweep(after=9 * 60 + 1)
    assert world.tasks.running == []
    assert world.run("r1").state is RunState.RUNNING
    world.stop_task(arn_of(world, one))
    assert world.run("r1").reason is Reason.RUN_TIMEOUT
    check(world)


def test_the_place_of_a_task_whose_end_no_event_told_of_is_freed_in_time():
    world = fargate(max_workers=1)
    world.submit("r1")
    (one,) = started(world)
    one.finish()
    settle_down(world, one)
    one.terminate()
    world.tasks.end(arn_of(world, one), "nobody heard of it")
    world.submit("r2")
    assert world.reserved() == 1
    world.sweep(after=120)
    assert world.tasks.running == []
    world.sweep(after=200)
    for _ in range(3):
        world.sweep(after=60)
    check(world)
    assert len(world.tasks.running) == 1
    assert world.reserved() == 1


def test_a_task_whose_worker_is_lost_is_stopped_although_it_runs_on():
    world = fargate(max_workers=1)
    world.submit("r1")
    (one,) = started(world, prompt=False)
    world.disconnect(one.worker_id)
    for _ in range(4):
        world.messenger.take()
        world.sweep(after=60)
    assert world.worker(one.worker_id).state is WorkerState.GONE
    assert world.tasks.tasks[arn_of(world, one)].stopped
    check(world)
    world.stop_task(arn_of(world, one))
    started(world)
    assert world.run("r1").state is RunState.RUNNING
    check(world)


def test_a_task_that_never_registers_is_stopped_after_the_start_failure_limit():
    world = fargate(max_workers=1)
    world.submit()
    (task,) = world.tasks.running
    for _ in range(2):
        world.sweep(after=301)
        assert task in world.tasks.running
    world.sweep(after=301)
    assert task not in world.tasks.running
    check(world)
    world.sweep(after=301)
    assert [running.arn for running in world.tasks.running] != [task.arn]
    assert (len(world.tasks.running), world.reserved()) == (1, 1)
    check(world)


def test_a_task_that_failed_to_start_without_an_event_is_found_missing():
    world = fargate()
    world.submit()
    (task,) = world.tasks.running
    world.tasks.end(task.arn, "TaskFailedToStart")
    world.sweep(after=301)
    assert world.reserved() == 1
    (running,) = world.tasks.running
    assert running.arn != task.arn
    check(world)
