"""Tasks that do not come up: what passes is tried again for hours, what does not ends the runs with its reason."""

from typing import Any

import pytest
from quaymaster.dispatcher.users.pools import retry_starts
from quaymaster.dispatcher.users.why import explain_run
from quaymaster.domain.failure_table import LATE
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.stopped_tasks import Words, judge_start
from quaymaster.domain.trouble import StartFailure, Trouble, TroubleKind, after_failure
from quaymaster.errors import NoCapacity, Refused, Throttled

from tests.shared.memory.agents import agent
from tests.shared.memory.invariants import check
from tests.shared.memory.records import NOW
from tests.shared.memory.world import World

NO_IMAGE = {"stop_code": "TaskFailedToStart", "stopped_reason": "CannotPullContainerError: not found"}


def fargate(**settings: Any) -> World:
    return World(PoolKind.FARGATE, **settings)


def trouble(world: World) -> Trouble | None:
    starts = world.table.starts(world.pool.id)
    return starts.trouble if starts else None


def fail_starts(world: World, minutes: int, **words: str) -> None:
    """Let every task that is started fail, for so long."""
    for _ in range(minutes):
        for task in world.tasks.running:
            world.stop_task(task.arn, **words)
            check(world)
        world.sweep(after=60)
        check(world)


@pytest.mark.parametrize(
    ("words", "kind", "reason"),
    [
        (Words(stop_code="TaskFailedToStart"), TroubleKind.PASSING, Reason.START_FAILED),
        (Words(stopped_reason="CannotPullContainerError: not found"), TroubleKind.PERMANENT, Reason.IMAGE_PULL),
        (Words(container_reason="CannotPullContainerError: EOF"), TroubleKind.PASSING, Reason.IMAGE_PULL),
        (
            Words(stopped_reason="CannotPullContainerError: dial tcp: i/o timeout"),
            TroubleKind.PASSING,
            Reason.IMAGE_PULL,
        ),
        (
            Words(stopped_reason="Timeout waiting for network interface provisioning to complete."),
            TroubleKind.PASSING,
            Reason.START_FAILED,
        ),
        (
            Words(stopped_reason="Unexpected EC2 error: InsufficientFreeAddressesInSubnet"),
            TroubleKind.PASSING,
            Reason.START_FAILED,
        ),
        (
            Words(stopped_reason="ResourceInitializationError: unable to pull secrets: AccessDeniedException"),
            TroubleKind.PERMANENT,
            Reason.START_FAILED,
        ),
        (Words(container_reason="OutOfMemoryError: killed"), TroubleKind.PERMANENT, Reason.OUT_OF_MEMORY),
        (Words(stop_code="EssentialContainerExited"), TroubleKind.PERMANENT, Reason.START_FAILED),
        (Words(stop_code="UserInitiated", stopped_reason=LATE), TroubleKind.PERMANENT, Reason.START_FAILED),
        (Words(stop_code="SpotInterruption"), TroubleKind.CAPACITY, Reason.NO_CAPACITY),
        (Words(stopped_reason="Capacity is unavailable at this time"), TroubleKind.CAPACITY, Reason.NO_CAPACITY),
    ],
)
def test_what_ecs_says_tells_whether_a_start_may_be_tried_again(words: Words, kind: TroubleKind, reason: Reason):
    failure = judge_start(words)
    assert (failure.kind, failure.reason) == (kind, reason)
    assert failure.note


def test_delays_grow_with_jitter_up_to_a_quarter_of_an_hour():
    failure = StartFailure(kind=TroubleKind.CAPACITY, reason=Reason.NO_CAPACITY, note="RESOURCE:CPU")
    low = high = None
    spans: list[tuple[float, float]] = []
    for _ in range(8):
        low, high = after_failure(low, failure, NOW, b"\0\0"), after_failure(high, failure, NOW, b"\xff\xff")
        spans.append(((low.retry_at - NOW).total_seconds(), (high.retry_at - NOW).total_seconds()))
    assert spans[:4] == [(0, 0), (22.5, 30), (45, 60), (90, 120)]
    assert spans[-1] == (675, 900)


def test_a_pool_that_was_mended_starts_at_once_when_somebody_says_so():
    world = fargate()
    world.submit()
    fail_starts(world, 10, **NO_IMAGE)
    before = trouble(world)
    assert before
    assert before.retry_at > world.now
    assert world.tasks.running == []
    for _ in range(2):
        retry_starts(world.ports, world.pool)
        world.ring()
        check(world)
    assert trouble(world) is None
    assert len(world.tasks.running) == 1, "said twice, it starts nothing more"


def test_a_call_that_was_put_off_is_made_by_the_next_sweep_when_somebody_says_so():
    world = fargate()
    world.tasks.down = "not allowed to ask"
    world.submit()
    for _ in range(6):
        world.sweep(after=60)
    (launch,) = world.table.launches(world.pool.id)
    assert launch.due_at
    assert launch.due_at > world.now
    world.tasks.down = None
    world.sweep()
    assert world.tasks.running == []
    retry_starts(world.ports, world.pool)
    world.sweep()
    assert len(world.tasks.running) == 1
    check(world)


def test_a_private_pool_has_no_starts_to_try_again():
    world = World()
    with pytest.raises(Refused, match="pool: found team-a; a Fargate pool"):
        retry_starts(world.ports, world.pool)


def test_a_pool_whose_image_does_not_exist_says_so_and_fails_its_runs_past_the_limit():
    world = fargate()
    world.submit()
    fail_starts(world, 10, **NO_IMAGE)
    found = trouble(world)
    assert found
    assert (found.kind, found.is_the_pools) == (TroubleKind.PERMANENT, True)
    assert world.run("r1").state is RunState.READY
    why = explain_run(world.ports, world.run("r1"))
    assert "starts in a row came to nothing" in why
    assert "CannotPullContainerError: not found" in why
    assert "the run fails as image_pull in" in why
    assert f"`quaymaster pool retry {world.pool.name}`" in why
    shown = world.shown().trouble
    assert shown
    assert (shown.reason, shown.times, bool(shown.runs_fail_at)) == (Reason.IMAGE_PULL, found.times, True)
    fail_starts(world, 7, **NO_IMAGE)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, Reason.IMAGE_PULL)
    assert "not found" in (world.run("r1").note or "")


def test_a_run_that_comes_late_to_a_broken_pool_has_its_own_time():
    world = fargate()
    world.submit("r1")
    fail_starts(world, 12, **NO_IMAGE)
    world.submit("r2")
    fail_starts(world, 5, **NO_IMAGE)
    assert [world.run(name).state for name in ("r1", "r2")] == [RunState.FAILED, RunState.READY]


def test_the_limit_is_a_setting_of_the_pool_and_three_failures_are_needed_all_the_same():
    world = fargate(start_failure_limit=NOW - NOW)
    world.submit()
    fail_starts(world, 1, **NO_IMAGE)
    assert world.run("r1").state is RunState.READY
    fail_starts(world, 4, **NO_IMAGE)
    assert world.run("r1").reason is Reason.IMAGE_PULL


def test_the_tasks_of_one_launch_that_fail_together_are_one_failure():
    world = fargate(start_failure_limit=NOW - NOW)
    world.request(*[{"schema": 1, "id": f"r{n}", "pool": world.pool.name, "command": ["true"]} for n in range(6)])
    tasks = world.tasks.running
    world.tasks.capacity = 0
    for task in tasks:
        world.stop_task(task.arn, **NO_IMAGE)
    found = trouble(world)
    assert found
    assert found.times <= 3
    assert found.kind is TroubleKind.CAPACITY
    world.sweep()
    assert world.run("r1").state is RunState.READY


def test_what_passes_never_fails_a_run_and_is_over_as_a_task_becomes_a_worker():
    world = fargate()
    world.submit()
    fail_starts(world, 180, stop_code="TaskFailedToStart")
    found = trouble(world)
    assert found
    assert (found.kind, found.times > 5) == (TroubleKind.PASSING, True)
    world.sweep(after=15 * 60)
    (task,) = world.tasks.running
    one = agent(world, task.arn.rpartition("/")[2], launch=task.launch_id)
    one.register()
    assert trouble(world) is None
    assert world.run("r1").state is RunState.PREPARING
    check(world)


@pytest.mark.parametrize("error", [NoCapacity("ecs", "Capacity is unavailable at this time"), Throttled("ecs", "slow")])
def test_a_drought_is_waited_out_for_hours_and_shown(error: NoCapacity | Throttled):
    world = fargate()
    world.tasks.error = error
    world.submit()
    for _ in range(240):
        world.tasks.error = error
        world.sweep(after=60)
        check(world)
    assert 10 <= world.tasks.calls <= 32
    assert world.run("r1").state is RunState.READY
    kind = TroubleKind.CAPACITY if isinstance(error, NoCapacity) else TroubleKind.THROTTLED
    shown = world.shown().trouble
    assert shown
    assert (shown.kind, shown.runs_fail_at) == (kind, None)
    assert error.args[0] in explain_run(world.ports, world.run("r1"))
    world.tasks.error = None
    for _ in range(16):
        world.sweep(after=60)
    assert len(world.tasks.running) == 1
    assert trouble(world) is None
    check(world)


def test_a_throttled_call_is_repeated_under_its_token_and_holds_its_place():
    world = fargate()
    world.tasks.error, world.tasks.answer_lost = Throttled("ecs", "Rate exceeded"), True
    world.submit()
    assert (len(world.tasks.running), world.reserved()) == (1, 1)
    world.sweep(after=16)
    assert (len(world.tasks.running), world.reserved()) == (1, 1)
    check(world)


def test_a_call_that_ecs_refuses_for_good_fails_the_runs_in_time():
    world = fargate()
    world.tasks.error = Refused("task", "no such role", "roles that exist")
    world.submit()
    for _ in range(20):
        world.tasks.error = Refused("task", "no such role", "roles that exist")
        world.sweep(after=60)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, Reason.START_FAILED)
    assert "no such role" in (world.run("r1").note or "")


def test_a_refused_permission_is_told_with_its_action():
    said = (
        "RunTask: AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/"
        "quaymaster-production-DispatchRunsRole-1ABCDEFGHIJK/quaymaster-production-dispatch-runs is not authorized to "
        "perform: iam:PassRole on resource: arn:aws:iam::123456789012:role/quaymaster-production-TaskExecutionRole"
    )
    world = fargate()
    world.tasks.error = Refused("task", said, "what the roles allow")
    world.submit()
    shown = world.shown()
    assert shown.trouble
    assert "iam:PassRole" in shown.trouble.note
    assert "iam:PassRole" in explain_run(world.ports, world.run("r1"))
