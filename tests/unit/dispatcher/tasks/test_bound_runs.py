"""Runs that name an image of their own: a task is started for each, takes it and no other, and ends with it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from quaymaster.dispatcher.users.pools import retry_starts
from quaymaster.dispatcher.users.views import count_pool
from quaymaster.dispatcher.users.why import explain_run
from quaymaster.domain import ids
from quaymaster.domain.images import UNUSED, is_allowed
from quaymaster.domain.messages import HandedBack
from quaymaster.domain.pool import Launch, PoolKind
from quaymaster.domain.spot import Capacity
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.trouble import TroubleKind
from quaymaster.domain.worker import WorkerState
from quaymaster.errors import NoCapacity, Refused, Unavailable
from quaymaster.ports import Replace

from tests.shared.memory.agents import FakeAgent, agent, settle_down
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World

NO_IMAGE = {"stop_code": "TaskFailedToStart", "stopped_reason": "CannotPullContainerError: not found"}
SLOW_REGISTRY = {"stop_code": "TaskFailedToStart", "stopped_reason": "CannotPullContainerError: i/o timeout"}
RED, BLUE = "registry.example/team/red:1", "registry.example/team/blue:1"


def world_of(**settings: Any) -> World:
    return World(PoolKind.FARGATE, images=("registry.example/team/*",), **settings)


def launches(world: World) -> list[Launch]:
    return world.table.launches(world.pool.id)


def bound(world: World) -> list[str]:
    return [ticket.run_id for ticket in world.table.bound(world.pool.id, 100)]


def image_of(world: World, arn: str) -> str | None:
    """The image that a task was started with; None for the pool's own."""
    return world.tasks.images.get(world.tasks.tasks[arn].task_definition)


def come_up(world: World, arn: str) -> FakeAgent:
    """The task's agent registers."""
    one = agent(world, ids.task_id(arn), launch=world.tasks.tasks[arn].launch_id)
    one.register()
    settle_down(world, one)
    return one


def trouble(world: World) -> Any:
    starts = world.table.starts(world.pool.id)
    return starts and starts.trouble


# ---- The way of such a run -------------------------------------------------------------------------------------------


def test_a_run_that_names_an_image_has_a_task_of_its_own_which_ends_with_it():
    world = world_of(runs_per_worker=5)
    run = world.submit("r1", image=RED)
    check(world)
    assert (run.state, run.bound, bound(world)) == (RunState.READY, True, [run.id])
    (task,) = world.tasks.running
    assert image_of(world, task.arn) == RED
    world.submit("plain")
    one = come_up(world, task.arn)
    check(world)
    assert one.begun == [(run.id, 1)]
    one.finish()
    assert world.run("r1").state is RunState.FINISHED
    # It may run five, and one waits: but it is of another image.
    assert world.worker(one.worker_id).state is WorkerState.LEAVING
    assert world.run("plain").state is RunState.READY
    assert task.arn not in [running.arn for running in world.tasks.running]
    check(world)


def test_no_idle_worker_is_given_it():
    world = world_of(runs_per_worker=5)
    world.submit("plain")
    one = come_up(world, world.tasks.running[0].arn)
    one.finish()
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    run = world.submit("r1", image=RED)
    world.sweep(after=60)
    assert world.run("r1").state is RunState.READY
    assert world.worker(one.worker_id).state is WorkerState.IDLE
    assert [launch.run for launch in launches(world) if launch.starting] == [run.id]
    check(world)


def test_a_task_takes_its_own_run_though_others_wait_before_it():
    world = world_of(max_workers=2)
    world.submit("plain")
    run = world.submit("r1", image=RED)
    own = next(task for task in world.tasks.running if image_of(world, task.arn) == RED)
    one = come_up(world, own.arn)
    assert one.begun == [(run.id, 1)]
    assert world.run("plain").state is RunState.READY
    check(world)


def test_one_task_is_started_for_each_and_places_are_shared_with_all_others_by_turn():
    world = world_of(max_workers=4)
    bodies = [
        {"schema": 1, "id": f"r{n}", "pool": world.pool.name, "command": ["true"], **({"image": RED} if n % 2 else {})}
        for n in range(6)
    ]
    assert world.request(*bodies) == []
    check(world)
    started = [image_of(world, task.arn) for task in world.tasks.running]
    assert sorted(started, key=str) == [None, None, RED, RED]
    assert {launch.run for launch in launches(world)} == {None, world.run("r1").id, world.run("r3").id}
    for _ in range(3):
        world.sweep(after=60)
    assert len(world.tasks.running) == 4


def test_a_proposed_run_with_an_image_waits_behind_a_tracked_one_without():
    world = world_of(max_workers=1)
    world.tasks.down = "away"
    world.submit("p", image=RED, type="proposed")
    world.tasks.down = None
    world.submit("t", type="tracked")
    world.sweep(after=60)
    assert [image_of(world, task.arn) for task in world.tasks.running] == [None]


def test_a_run_that_is_gone_when_its_task_comes_leaves_the_task_nothing_to_do():
    world = world_of(queue_timeout=timedelta(minutes=1))
    world.submit("r1", image=RED)
    (task,) = world.tasks.running
    world.sweep(after=61)
    assert (world.run("r1").reason, bound(world)) == (Reason.QUEUE_EXPIRED, [])
    world.submit("plain")
    one = come_up(world, task.arn)
    assert world.worker(one.worker_id).state is WorkerState.LEAVING
    assert one.begun == []
    assert world.tasks.tasks[task.arn].stopped
    check(world)


def test_a_run_that_is_handed_back_gets_another_task():
    world = world_of()
    run = world.submit("r1", image=RED)
    (task,) = world.tasks.running
    one = agent(world, ids.task_id(task.arn), launch=task.launch_id, prompt=False)
    one.register()
    settle_down(world, one)
    # As one does that takes further runs: this one does not, whatever it says.
    world.hear(one.worker_id, "handed_back", HandedBack(session=one.session, run=run.id, attempt=1, leaving=False))
    check(world)
    assert world.worker(one.worker_id).state is WorkerState.LEAVING
    assert (world.run("r1").state, bound(world)) == (RunState.READY, [run.id])
    (other,) = world.tasks.running
    assert other.arn != task.arn
    assert come_up(world, other.arn).begun == [(run.id, 2)]
    check(world)


def test_a_run_whose_task_is_lost_before_it_began_gets_another():
    world = world_of()
    run = world.submit("r1", image=RED)
    (task,) = world.tasks.running
    agent(world, ids.task_id(task.arn), launch=task.launch_id, prompt=False).register()
    world.stop_task(task.arn, stop_code="EssentialContainerExited")
    check(world)
    (other,) = world.tasks.running
    assert come_up(world, other.arn).begun == [(run.id, 2)]


def test_such_a_worker_that_comes_back_leaves():
    world = world_of()
    world.submit("r1", image=RED)
    (task,) = world.tasks.running
    one = agent(world, ids.task_id(task.arn), launch=task.launch_id)
    one.register()
    # It hears nothing for a while.
    world.messenger.sent.clear()
    for _ in range(4):
        world.sweep(after=60)
    assert world.run("r1").state is RunState.READY
    (other,) = [found for found in world.tasks.running if found.arn != task.arn]
    come_up(world, other.arn)
    one.register()
    settle_down(world, one)
    check(world)
    found = world.table.worker(world.pool.id, one.worker_id)
    assert not found or found.state in (WorkerState.LEAVING, WorkerState.GONE)
    assert world.table.idle(world.pool.id, 10) == []


# ---- Its task definition ---------------------------------------------------------------------------------------------


def test_a_definition_is_registered_once_for_each_image():
    world = world_of()
    for name, image in (("r1", RED), ("r2", RED), ("r3", BLUE)):
        world.submit(name, image=image)
    assert sorted(world.tasks.images.values()) == [BLUE, RED]
    assert [view.image for view in world.shown().images] == [BLUE, RED]


def test_two_that_register_one_image_at_once_leave_what_the_sweep_retires():
    world = world_of()
    met = False

    def meanwhile(name: str) -> None:
        nonlocal met
        if name == "commit" and world.tasks.images and not met:
            met = True
            world.submit("r2", image=RED)

    world.store.before = meanwhile
    world.submit("r1", image=RED)
    world.store.before = lambda name: None
    assert len(world.tasks.images) == 2
    known = [one.task_definition for one in world.table.image_definitions(world.pool.id)]
    assert len(known) == 1
    assert len(world.tasks.running) == 2
    check(world)
    world.tasks.age()
    for _ in range(61):
        world.sweep(after=60)
    assert world.tasks.retired == set(world.tasks.images) - set(known)


def test_a_definition_that_no_run_has_wanted_for_a_week_is_retired_and_made_again_when_wanted():
    world = world_of()
    world.submit("r1", image=RED)
    (task,) = world.tasks.running
    come_up(world, task.arn).finish()
    world.stop_task(task.arn)
    (arn,) = world.tasks.images
    world.wait((UNUSED - timedelta(hours=2)).total_seconds())
    world.tasks.age()
    for _ in range(60):
        world.sweep(after=60)
    assert world.tasks.retired == set()
    for _ in range(120):
        world.sweep(after=60)
    assert world.tasks.retired == {arn}
    assert world.table.image_definitions(world.pool.id) == []
    world.submit("r2", image=RED)
    assert [image_of(world, found.arn) for found in world.tasks.running] == [RED]
    assert len(world.tasks.images) == 2


def test_one_in_use_is_kept_and_its_use_is_written_once_a_day():
    world = world_of()
    for day in range(10):
        for number in range(3):
            name = f"r{day}-{number}"
            world.submit(name, image=RED)
            (task,) = world.tasks.running
            come_up(world, task.arn).finish()
            world.stop_task(task.arn)
        world.wait(24 * 3600)
    (one,) = world.table.image_definitions(world.pool.id)
    assert one.version == 10
    assert len(world.tasks.images) == 1


def test_a_young_revision_that_nobody_knows_is_left_alone():
    world = world_of()
    arn = world.tasks.define_image(world.pool.task_definition or "", BLUE)
    for _ in range(60):
        world.sweep(after=60)
    assert world.tasks.retired == set()
    world.tasks.age()
    for _ in range(60):
        world.sweep(after=60)
    assert world.tasks.retired == {arn}


def test_an_image_that_cannot_be_defined_ends_its_run_and_no_other():
    world = world_of()
    world.tasks.image_errors[RED] = Refused("task", "no such image name", "one that ECS takes")
    assert world.request(
        {"schema": 1, "id": "r1", "pool": world.pool.name, "command": ["true"], "image": RED},
        {"schema": 1, "id": "r2", "pool": world.pool.name, "command": ["true"], "image": BLUE},
        {"schema": 1, "id": "r3", "pool": world.pool.name, "command": ["true"]},
    ) == []  # fmt: skip
    run = world.run("r1")
    assert (run.state, run.reason) == (RunState.FAILED, Reason.START_FAILED)
    assert "no such image name" in (run.note or "")
    assert sorted((image_of(world, task.arn) for task in world.tasks.running), key=str) == [None, BLUE]
    check(world)


def test_one_that_cannot_be_defined_now_is_asked_for_again():
    world = world_of()
    world.tasks.image_errors[RED] = Unavailable("ecs", "away")
    world.submit("r1", image=RED)
    assert (world.tasks.running, world.run("r1").state) == ([], RunState.READY)
    del world.tasks.image_errors[RED]
    world.sweep(after=60)
    assert len(world.tasks.running) == 1


# ---- Starts that come to nothing -------------------------------------------------------------------------------------


def test_an_image_that_is_not_there_ends_its_run_at_once_and_is_nothing_to_the_pool():
    world = world_of()
    world.submit("r1", image=RED)
    (task,) = world.tasks.running
    world.stop_task(task.arn, **NO_IMAGE)
    check(world)
    run = world.run("r1")
    assert (run.state, run.reason, bound(world)) == (RunState.FAILED, Reason.IMAGE_PULL, [])
    assert "not found" in (run.note or "")
    assert (trouble(world), launches(world), world.reserved()) == (None, [], 0)
    world.submit("plain")
    assert len(world.tasks.running) == 1


def test_what_passes_is_tried_again_later_each_time_and_holds_back_no_other():
    world = world_of()
    run = world.submit("r1", image=RED)
    tries = 0
    for _ in range(60):
        for task in world.tasks.running:
            if image_of(world, task.arn) == RED:
                tries += 1
                world.stop_task(task.arn, **SLOW_REGISTRY)
                check(world)
        world.sweep(after=60)
    assert world.run("r1").state is RunState.READY
    assert 5 <= tries <= 12
    assert trouble(world) is None
    (view,) = world.shown().images
    assert view.trouble
    assert (view.trouble.times, view.trouble.kind) == (tries, TroubleKind.PASSING)
    why = explain_run(world.ports, run)
    assert f"a Fargate task of its own, of image {RED}" in why
    assert f"{tries} starts in a row came to nothing" in why
    assert "i/o timeout" in why
    world.submit("r2", image=BLUE)
    world.submit("plain")
    assert sorted((image_of(world, task.arn) for task in world.tasks.running), key=str) == [None, BLUE]
    retry_starts(world.ports, world.pool)
    world.sweep()
    (task,) = [task for task in world.tasks.running if image_of(world, task.arn) == RED]
    assert come_up(world, task.arn).begun == [(run.id, 1)]
    (view, _) = sorted(world.shown().images, key=lambda view: view.image != RED)
    assert view.trouble is None
    check(world)


def test_a_pool_whose_own_image_is_broken_still_starts_those_of_others():
    world = world_of(max_workers=1)
    world.submit("plain")
    for _ in range(6):
        for task in world.tasks.running:
            world.stop_task(task.arn, **NO_IMAGE)
        world.sweep(after=60)
    assert trouble(world).is_the_pools
    run = world.submit("r1", image=RED)
    (task,) = world.tasks.running
    assert come_up(world, task.arn).begun == [(run.id, 1)]
    # That one came up says nothing of the pool's own.
    assert trouble(world).is_the_pools
    check(world)


def test_want_of_capacity_is_everybodys():
    world = world_of()
    world.tasks.error = NoCapacity("ecs", "Capacity is unavailable at this time")
    run = world.submit("r1", image=RED)
    assert trouble(world).kind is TroubleKind.CAPACITY
    assert (run.state, launches(world)) == (RunState.READY, [])
    assert "Capacity is unavailable" in explain_run(world.ports, run)
    world.sweep(after=60)
    assert len(world.tasks.running) == 1
    check(world)


def test_a_call_that_is_refused_for_good_ends_the_run_it_was_for():
    world = world_of()
    world.tasks.error = Refused("task", "no such role", "roles that exist")
    world.submit("r1", image=RED)
    run = world.run("r1")
    assert (run.state, run.reason) == (RunState.FAILED, Reason.START_FAILED)
    assert (trouble(world), launches(world), world.reserved()) == (None, [], 0)
    check(world)


def test_spot_is_chosen_by_the_class_of_the_run():
    world = world_of(read_only_capacity=Capacity.SPOT)
    world.submit("t", image=RED, type="tracked")
    world.submit("p", image=RED, type="proposed")
    assert {launch.run: launch.spot for launch in launches(world)} == {
        world.run("t").id: False,
        world.run("p").id: True,
    }


def test_a_run_that_waits_for_its_task_says_so_and_counts_as_queued():
    world = world_of(max_workers=1)
    first = world.submit("r1", image=RED)
    world.wait(20)
    assert explain_run(world.ports, first) == (
        f"it waits for a Fargate task of its own, of image {RED}: it is starting since 20s"
    )
    second = world.submit("r2", image=BLUE)
    assert "at its limit of 1 worker (max_workers)" in explain_run(world.ports, second)
    assert count_pool(world.table, world.pool.id).queued == 2


@pytest.mark.parametrize("waits", [10, 0])
def test_a_run_that_waits_when_its_pool_allows_its_image_no_more_is_still_started_or_expires(waits: int):
    world = world_of(queue_timeout=timedelta(minutes=5))
    world.tasks.down = "away"
    world.submit("r1", image=RED)
    pool = world.table.pool(world.pool.id)
    assert pool
    settings = replace(pool.settings, images=())
    world.table.commit(Replace(replace(pool, version=pool.version + 1, settings=settings)))
    if waits:
        for _ in range(waits):
            world.sweep(after=60)
        assert (world.run("r1").reason, bound(world)) == (Reason.QUEUE_EXPIRED, [])
        return
    world.tasks.down = None
    world.sweep(after=60)
    world.sweep(after=60)
    (task,) = world.tasks.running
    assert come_up(world, task.arn).begun == [(world.run("r1").id, 1)]
    check(world)


# ---- Which images a pool allows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "patterns", "allowed"),
    [
        (RED, ("registry.example/team/*",), True),
        (RED, ("other/*", "registry.example/*/red:1"), True),
        (RED, (RED,), True),
        (RED, ("registry.example/team/red",), False),
        (RED, ("registry.example/team/red:?",), False),
        (RED, (), False),
        ("registryXexample/team/red", ("registry.example/*",), False),
        ("evil/registry.example/team/red", ("registry.example/*",), False),
        ("anything\nelse", ("*",), False),
        ("anything", ("*",), True),
    ],
)
def test_an_image_is_allowed_by_a_pattern(image: str, patterns: tuple[str, ...], allowed: bool):
    assert is_allowed(image, patterns) is allowed
