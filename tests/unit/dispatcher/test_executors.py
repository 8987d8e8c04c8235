"""Pools whose workers run containers: who may be a worker, which images runs may name, and who names them."""

from dataclasses import replace
from typing import Any

import pytest
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.users.runs import find_run
from quaymaster.dispatcher.users.views import view_run
from quaymaster.domain.messages import Assign, Executor, ImageRule, ImageUsed, Unfit
from quaymaster.domain.pool import PoolSettings
from quaymaster.domain.states import RunState
from quaymaster.ports import Replace

from tests.shared.memory.agents import FakeAgent, joined, settle_down
from tests.shared.memory.world import HERE, World


def in_containers(image: str | None = None, **settings: Any) -> World:
    """A world whose pool has the executor docker."""
    world = World()
    pool = replace(
        world.pool,
        executor=Executor.DOCKER,
        image=image,
        settings=replace(world.pool.settings, **settings),
        version=world.pool.version + 1,
    )
    world.table.commit(Replace(pool))
    world.pool, world.pools = pool, Pools(world.ports.store, world.clock)
    return world


def request(world: World, **fields: Any) -> list[str]:
    """The reasons for which it was refused."""
    assert world.request({"schema": 1, "id": "r1", "pool": world.pool.name, "command": ["true"], **fields}) == []
    return [letter.attributes["reason"] for letter in world.queue.refused]


@pytest.mark.parametrize(("pools", "agents"), [("docker", "process"), ("process", "docker")])
def test_an_agent_with_another_executor_is_turned_away_with_the_reason(pools: str, agents: str) -> None:
    world = in_containers() if pools == "docker" else World()
    (agent,) = joined(world, "w1", executor=Executor(agents))
    (heard,) = agent.heard
    assert isinstance(heard, Unfit)
    assert heard.session == agent.session
    assert heard.note == f"pool {world.pool.name} has the executor {pools}, and this agent has {agents}"
    assert world.ports.store.workers(world.pool.id) == []


def test_any_image_may_be_named_unless_the_pool_says_which() -> None:
    assert request(in_containers(), image="any/thing:1") == []
    allowing = in_containers(images=("team/*",))
    (reason,) = request(allowing, image="other/thing:1")
    assert reason.endswith(f"an image that pool {allowing.pool.name} allows: team/*")
    assert request(in_containers(images=("team/*",)), image="team/thing:1") == []
    assert request(in_containers(image="own:1", images=("team/*",)), image="own:1") == []
    assert in_containers().pool.settings == PoolSettings()


def assigned(world: World, **fields: Any) -> tuple[Assign, FakeAgent]:
    (agent,) = joined(world, "w1", executor=Executor.DOCKER)
    assert request(world, **fields) == []
    settle_down(world, agent)
    return next(message for message in agent.heard if isinstance(message, Assign)), agent


def test_the_assignment_says_what_the_request_names_and_what_holds_without_it() -> None:
    assign, _ = assigned(in_containers(image="pool:1"), image="asked:1", tool="ansible")
    assert (assign.image, assign.tool) == ("asked:1", "ansible")
    assert assign.default_image == ImageUsed(name="pool:1", rule=ImageRule.POOL)
    assign, _ = assigned(in_containers())
    assert (assign.image, assign.tool, assign.default_image) == (None, "other", None)
    world = in_containers()
    world.ports = replace(world.ports, runner_image="ours:1")
    assign, _ = assigned(world)
    assert assign.default_image == ImageUsed(name="ours:1", rule=ImageRule.TEMPLATE)


def test_a_run_is_shown_with_its_image_and_with_who_named_it() -> None:
    world = in_containers()
    used = ImageUsed(name="host:1", rule=ImageRule.LAUNCHER)
    (agent,) = joined(world, "w1", executor=Executor.DOCKER, image=used)
    assert request(world) == []
    settle_down(world, agent)
    run = world.run("r1")
    assert run.state is RunState.RUNNING
    shown = view_run(world.ports, find_run(world.ports.store, run.id), HERE)
    assert (shown.image, shown.image_from) == ("host:1", "launcher")
    agent.finish()
    settle_down(world, agent)
    assert view_run(world.ports, find_run(world.ports.store, run.id), HERE).image_from == "launcher"
