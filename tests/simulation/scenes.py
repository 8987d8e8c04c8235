"""Small scenes in which claims and fences meet: two handlers, of which each may overtake the other anywhere."""

from collections.abc import Sequence

from quaymaster.domain.messages import FromAgent

from tests.shared.memory.agents import FakeAgent, agent, joined, preparing, running
from tests.shared.memory.world import World
from tests.simulation.changes import Word
from tests.simulation.interleavings import Call

type Made = tuple[World, Sequence[Call]]


def request(world: World, name: str) -> Call:
    """The dispatcher with one request."""
    body = {"schema": 1, "id": name, "pool": world.pool.name, "command": ["true"]}

    def dispatch() -> None:
        while world.request(body):
            pass

    return Call(f"request {name}", dispatch)


def said(world: World, one: FakeAgent, act: str) -> Call:
    """The event that an agent's next act leads to."""
    messages: list[tuple[str, FromAgent]] = []
    one.publish = lambda event, message: messages.append((event, message))
    getattr(one, act)()
    event, message = messages[0]
    word = Word(worker_id=one.worker_id, message=message)
    return Call(f"{event} of {one.session}", lambda: world.hear(one.worker_id, event, message), word)


def a_request_meets_a_worker_that_registers() -> Made:
    world = World()
    return world, [request(world, "r1"), said(world, agent(world), "register")]


def a_request_meets_a_worker_that_finishes() -> Made:
    world = World()
    one = running(world)
    return world, [said(world, one, "finish"), request(world, "r2")]


def two_requests_meet_one_idle_worker() -> Made:
    world = World()
    joined(world, "w1")
    return world, [request(world, "r1"), request(world, "r2")]


def two_workers_meet_one_waiting_run() -> Made:
    world = World()
    world.submit("r1")
    return world, [said(world, agent(world, name), "register") for name in ("w1", "w2")]


def a_preparation_ends_as_a_new_session_takes_over() -> Made:
    world = World()
    one = preparing(world)
    return world, [said(world, one, "prepare"), said(world, agent(world, session=2), "register")]


def a_report_comes_as_a_new_session_takes_over() -> Made:
    world = World()
    one = running(world)
    return world, [said(world, one, "finish"), said(world, agent(world, session=2), "register")]


def a_preparation_ends_as_the_sweep_takes_it_back() -> Made:
    world = World()
    one = preparing(world)
    prepared = said(world, one, "prepare")
    world.wait(700)
    return world, [prepared, Call("sweep", lambda: world.sweep())]


SCENES = [
    a_request_meets_a_worker_that_registers,
    a_request_meets_a_worker_that_finishes,
    two_requests_meet_one_idle_worker,
    two_workers_meet_one_waiting_run,
    a_preparation_ends_as_a_new_session_takes_over,
    a_report_comes_as_a_new_session_takes_over,
    a_preparation_ends_as_the_sweep_takes_it_back,
]
