"""A request's id stands for one content: the same again is the same run, anything else is a conflict."""

import json

import pytest
from quaymaster.domain.states import RunState

from tests.shared.memory.agents import joined
from tests.shared.memory.world import World

SAME = {"command": ["true"], "environment": {"A": "1"}, "log_timeout": "2m", "stack": "s", "retryable": False}
OTHER: list[tuple[str, object]] = [
    ("command", ["false"]),
    ("environment", {"A": "2"}),
    ("log_timeout", "3m"),
    ("run_timeout", "3m"),
    ("stack", "t"),
    ("retryable", True),
    ("type", "proposed"),
]


def body(world: World, **changes: object) -> dict[str, object]:
    return {"schema": 1, "id": "r1", "pool": world.pool.name, **SAME, **changes}


def reasons(world: World) -> list[str]:
    return [refused.attributes["reason"] for refused in world.queue.refused]


@pytest.mark.parametrize("field", [name for name, _ in OTHER])
def test_the_same_id_with_other_content_is_refused_and_the_run_stays_as_it_is(field: str):
    world = World()
    assert world.request(body(world)) == []
    before = world.run("r1")
    assert world.request(body(world, **{field: dict(OTHER)[field]})) == []
    (reason,) = reasons(world)
    assert reason.startswith("id: ")
    assert f"with other {field}" in reason
    assert world.run("r1") == before


def test_a_conflict_takes_no_neighbour_along_in_one_batch():
    world = World()
    joined(world, "w1")
    first, other, again, beside = body(world), body(world, command=["false"]), body(world), body(world, id="r2")
    assert world.request(first, other, again, beside) == []
    assert len(reasons(world)) == 1
    assert "command" in reasons(world)[0]
    assert json.loads(world.queue.refused[0].body)["command"] == ["false"]
    assert world.run("r1").state is not RunState.FAILED
    assert world.run("r2").state is RunState.READY


def test_a_conflict_that_comes_first_does_not_refuse_the_repetition_behind_it():
    world = World()
    world.request(body(world))
    assert world.request(body(world, command=["false"]), body(world)) == []
    assert [json.loads(refused.body)["command"] for refused in world.queue.refused] == [["false"]]
