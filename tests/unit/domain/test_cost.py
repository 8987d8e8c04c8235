"""What a run has cost: the time that it kept workers busy, times their size, by the deployment's prices."""

from dataclasses import replace
from datetime import timedelta

import pytest
from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.dispatcher.users.views import show_run
from quaymaster.domain.cost import Prices, TaskSize, cost_of, read_prices
from quaymaster.domain.pool import Pool, PoolKind
from quaymaster.domain.run import held_seconds
from quaymaster.errors import Refused

from tests.shared.memory.agents import agent, settle_down
from tests.shared.memory.records import NOW
from tests.shared.memory.world import World

HERE = Deployment(namespace="quaymaster", ssm_prefix="/quaymaster/quaymaster", bucket="b", prices=Prices())


def test_an_hour_of_the_usual_size_costs_what_fargate_lists():
    cost = cost_of(3600, TaskSize(cpu=2048, memory=4096), Prices(vcpu_hour=0.04048, gb_hour=0.004445))
    assert cost == pytest.approx(0.09874)


def test_prices_are_read_from_a_parameter_and_refused_when_they_are_none():
    assert read_prices("vcpu-hour=0.05,gb-hour=1") == Prices(vcpu_hour=0.05, gb_hour=1.0)
    for wrong in ("", "0.05,1", "vcpu-hour=-1,gb-hour=1", "vcpu-hour=nan,gb-hour=1"):
        with pytest.raises(Refused, match="FargatePrices"):
            read_prices(wrong)


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
