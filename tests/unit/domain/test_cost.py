"""What runs and pools have cost: the time of their tasks, times their size, by the prices of region and processor."""

from dataclasses import replace
from datetime import timedelta

import pytest
from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.dispatcher.users.views import show_run
from quaymaster.domain.cost import CALLS_OF_A_RUN, TaskSize, cost_of
from quaymaster.domain.pool import KEPT_MONTHS, Pool, PoolKind
from quaymaster.domain.prices import ON_DEMAND_X86, Architecture, Prices, price_list
from quaymaster.domain.run import held_seconds
from quaymaster.domain.spot import Capacity
from quaymaster.errors import Refused
from quaymaster.ports import Replace

from tests.shared.memory.agents import FakeAgent, agent, settle_down
from tests.shared.memory.records import NOW
from tests.shared.memory.world import HERE, World

X86, ARM = Architecture.X86_64, Architecture.ARM64


# ---- Prices ----------------------------------------------------------------------------------------------------------


def test_an_hour_of_the_usual_size_costs_what_fargate_lists():
    prices = price_list("", "us-east-1", X86)
    assert prices
    assert cost_of(3600, 0, TaskSize(cpu=2048, memory=4096), prices) == pytest.approx(0.09874)
    assert cost_of(0, 3600, TaskSize(cpu=2048, memory=4096), prices) == pytest.approx(0.029622)


@pytest.mark.parametrize(
    ("region", "architecture", "vcpu", "gb"),
    [
        ("us-east-1", X86, 0.04048, 0.004445),
        ("us-east-1", ARM, 0.03238, 0.00356),
        ("ap-southeast-2", ARM, 0.03885, 0.00426),
        ("eu-central-1", X86, 0.04656, 0.00511),
    ],
)
def test_prices_are_those_that_aws_lists(region: str, architecture: Architecture, vcpu: float, gb: float):
    found = price_list("", region, architecture)
    assert found
    assert (round(found.on_demand.vcpu_hour, 5), round(found.on_demand.gb_hour, 6)) == (
        vcpu,
        pytest.approx(gb, abs=5e-6),
    )


def test_every_region_of_the_table_has_sensible_prices():
    assert len(ON_DEMAND_X86) > 20
    for prices in ON_DEMAND_X86.values():
        assert 0.04 < prices.vcpu_hour < 0.07
        assert 0.1 < prices.gb_hour / prices.vcpu_hour < 0.12


def test_a_region_that_is_not_listed_has_no_prices_unless_the_parameter_tells_them():
    assert price_list("", "mars-north-1", X86) is None
    told = price_list("vcpu-hour=0.05,gb-hour=1", "mars-north-1", ARM)
    assert told
    assert told.on_demand == Prices(vcpu_hour=0.05, gb_hour=1.0)
    assert told.spot == Prices(vcpu_hour=pytest.approx(0.015), gb_hour=pytest.approx(0.3))  # type: ignore[arg-type]
    exact = price_list("vcpu-hour=0.05,gb-hour=1,spot-vcpu-hour=0.01,spot-gb-hour=0.2", "", X86)
    assert exact
    assert exact.of(spot=True) == Prices(vcpu_hour=0.01, gb_hour=0.2)


@pytest.mark.parametrize(
    "wrong", ["0.05,1", "vcpu-hour=-1,gb-hour=1", "vcpu-hour=nan,gb-hour=1", "vcpu-hour=1,gb-hour=1,spot-vcpu-hour=1"]
)
def test_what_are_no_prices_is_refused(wrong: str):
    with pytest.raises(Refused, match="FargatePrices"):
        Deployment(namespace="n", ssm_prefix="/n", bucket="b", prices=wrong)


# ---- Runs ------------------------------------------------------------------------------------------------------------


def test_every_attempt_of_a_run_counts_and_waiting_does_not():
    world = World()
    world.submit()
    world.wait(500)
    one = agent(world, "one", prompt=False)
    one.register()
    world.wait(30)
    one.terminate()
    settle_down(world, one)
    assert world.run("r1").worker_seconds == 30
    world.wait(500)
    two = agent(world, "two")
    two.register()
    settle_down(world, two)
    world.wait(90)
    assert held_seconds(world.run("r1"), world.now) == 120
    two.finish()
    assert world.run("r1").worker_seconds == 120
    world.wait(500)
    assert held_seconds(world.run("r1"), world.now) == 120


@pytest.mark.parametrize(
    ("kind", "size", "cost"),
    [
        (PoolKind.FARGATE, {}, 0.09874),
        (PoolKind.FARGATE, {"cpu": 1024, "memory": 2048}, 0.04937),
        (PoolKind.PRIVATE, {}, None),
    ],
)
def test_a_run_is_shown_with_its_cost_by_its_pools_size(kind: PoolKind, size: dict[str, int], cost: float | None):
    world = World(kind)
    world.submit()
    found = world.table.run_and_spec(world.run("r1").id)
    assert found
    pool: Pool = replace(world.pool, **size)
    spent = (replace(found[0], worker_seconds=3600), found[1])
    view = show_run(spent, pool, HERE, NOW + timedelta(hours=2))
    assert (view.worker_seconds, view.cost) == (3600, cost)


# ---- Pools -----------------------------------------------------------------------------------------------------------


def run_on_a_task(world: World, name: str, *, starts: float = 40, takes: float = 100) -> FakeAgent:
    """A run from its request to the end of its task, which ECS tells."""
    world.submit(name)
    (task,) = world.tasks.running
    world.wait(starts)
    one = agent(world, task.arn.rpartition("/")[2], launch=task.launch_id)
    one.register()
    settle_down(world, one)
    world.wait(takes)
    one.finish()
    settle_down(world, one)
    world.stop_task(task.arn, seconds=starts + takes)
    return one


def test_the_start_of_a_task_is_the_runs_that_it_came_up_for():
    world = World(PoolKind.FARGATE)
    run_on_a_task(world, "r1")
    run = world.run("r1")
    assert (run.worker_seconds, run.start_seconds, run.spot_seconds) == (100, 40, 0)
    found = world.table.run_and_spec(run.id)
    assert found
    assert show_run(found, world.pool, HERE, world.now).cost == pytest.approx(140 / 3600 * 0.09874, abs=1e-6)


def test_what_was_on_spot_costs_less():
    world = World(PoolKind.FARGATE, capacity=Capacity.SPOT)
    run_on_a_task(world, "r1")
    run = world.run("r1")
    assert (run.worker_seconds, run.start_seconds, run.spot_seconds) == (100, 40, 140)
    found = world.table.run_and_spec(run.id)
    assert found
    assert show_run(found, world.pool, HERE, world.now).cost == pytest.approx(140 / 3600 * 0.029622, abs=1e-6)


def test_the_second_run_of_a_task_has_no_start():
    world = World(PoolKind.FARGATE, runs_per_worker=2)
    world.submit("r1")
    (task,) = world.tasks.running
    world.wait(40)
    one = agent(world, task.arn.rpartition("/")[2], launch=task.launch_id)
    one.register()
    settle_down(world, one)
    world.submit("r2")
    for _ in range(2):
        world.wait(10)
        one.finish()
        settle_down(world, one)
    assert [world.run(name).start_seconds for name in ("r1", "r2")] == [40, 0]


def test_a_pool_shows_its_month_by_the_tasks_that_stopped_and_those_that_run():
    world = World(PoolKind.FARGATE)
    run_on_a_task(world, "r1")
    run_on_a_task(world, "r2", starts=2, takes=3)
    month = world.shown().month
    assert month
    # The second is billed for a minute.
    assert (month.month, month.tasks, month.runs, month.seconds, month.spot_seconds) == ("2026-03", 2, 2, 200, 0)
    assert month.cost == pytest.approx(200 / 3600 * 0.09874, abs=1e-6)
    assert month.calls == 2 * CALLS_OF_A_RUN
    world.submit("r3")
    world.wait(600)
    month = world.shown().month
    assert month
    assert (month.tasks, month.runs, month.seconds) == (3, 2, 800)


def test_a_task_whose_image_was_never_pulled_costs_nothing_and_one_nobody_told_of_counts_from_its_call():
    world = World(PoolKind.FARGATE)
    world.submit("r1")
    (task,) = world.tasks.running
    world.wait(100)
    world.tasks.capacity = 0
    world.stop_task(task.arn, seconds=0.0, stop_code="TaskFailedToStart", stopped_reason="Capacity is unavailable")
    month = world.shown().month
    assert month
    assert (month.tasks, month.seconds) == (1, 0)
    other = World(PoolKind.FARGATE)
    other.submit("r1")
    (task,) = other.tasks.running
    other.tasks.end(task.arn, "unheard")
    other.sweep(after=200)
    month = other.shown().month
    assert month
    assert month.seconds >= 200


def test_each_month_is_kept_by_itself_and_the_oldest_go():
    world = World(PoolKind.FARGATE)
    for number in range(KEPT_MONTHS + 3):
        run_on_a_task(world, f"r{number}")
        world.wait(timedelta(days=31).total_seconds())
    world.sweep()
    counters = world.table.counters(world.pool.id)
    assert counters
    assert len(counters.months) == KEPT_MONTHS
    assert all(month.tasks == 1 for month in counters.months.values())
    assert sorted(counters.months)[0] > "2026-03"


def test_a_private_pool_has_no_month():
    assert World().shown().month is None


def test_in_a_region_without_prices_nothing_is_told():
    world = World(PoolKind.FARGATE)
    run_on_a_task(world, "r1")
    found = world.table.run_and_spec(world.run("r1").id)
    assert found
    nowhere = replace(HERE, region="mars-north-1")
    assert show_run(found, world.pool, nowhere, world.now).cost is None


def test_a_pools_processor_decides_the_price():
    world = World(PoolKind.FARGATE)
    run_on_a_task(world, "r1")
    arm = replace(world.pool, architecture=ARM, version=world.pool.version + 1)
    world.table.commit(Replace(arm))
    found = world.table.run_and_spec(world.run("r1").id)
    assert found
    assert show_run(found, arm, HERE, world.now).cost == pytest.approx(140 / 3600 * 0.09874 * 0.8, abs=1e-6)
