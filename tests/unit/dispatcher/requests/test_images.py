"""A request may name an image only where its run is executed in it."""

from dataclasses import replace

import pytest
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.states import RunState
from quaymaster.ports import Replace

from tests.shared.memory.world import World


def request(world: World, image: str | None) -> list[str]:
    """The reasons for which it was refused."""
    body: dict[str, object] = {"schema": 1, "id": "r1", "pool": world.pool.name, "command": ["true"]}
    if image:
        body["image"] = image
    assert world.request(body) == []
    found = [letter.attributes["reason"] for letter in world.queue.refused]
    world.queue.refused.clear()
    return found


def with_image(image: str) -> World:
    world = World(PoolKind.FARGATE)
    world.table.commit(Replace(replace(world.pool, image=image, version=world.pool.version + 1)))
    world.pools = Pools(world.ports.store, world.clock)
    return world


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [(PoolKind.PRIVATE, "none: workers of pool "), (PoolKind.FARGATE, "none but the image of pool ")],
)
def test_an_image_that_would_be_ignored_is_refused_by_name(kind: PoolKind, allowed: str) -> None:
    world = World(kind)
    (reason,) = request(world, "registry/secret:1")
    assert reason.startswith(f"image: found text of 17 characters; {allowed}{world.pool.name}")
    assert world.table.records() == World(kind).table.records()


def test_the_image_of_a_pools_own_tasks_may_be_named() -> None:
    world = with_image("repo/worker:2")
    assert request(world, "repo/worker:3") != []
    assert request(world, "repo/worker:2") == []
    assert world.run("r1").state is RunState.READY


def test_the_same_id_with_an_image_is_another_request() -> None:
    world = with_image("repo/worker:2")
    assert request(world, None) == []
    (reason,) = request(world, "repo/worker:2")
    assert "with other image" in reason
