"""One bad thing does not take others with it: in a sweep, every item has its turn whatever another one raises."""

from collections.abc import Callable

import pytest
from quaymaster.dispatcher.reaper import sweep
from quaymaster.domain import ids
from quaymaster.domain.messages import Who
from quaymaster.domain.pool import PoolEntry, PoolKind
from quaymaster.domain.worker import WorkerState

from tests.shared.memory.agents import FakeAgent, agent, joined, settle_down
from tests.shared.memory.world import World


class Mistake(Exception):
    """Nothing that anybody foresaw."""


def breaking[**P, R](call: Callable[P, R], breaks: Callable[P, bool]) -> Callable[P, R]:
    """The call, which makes a mistake where `breaks` says so."""

    def broken(*args: P.args, **kwargs: P.kwargs) -> R:
        if breaks(*args, **kwargs):
            raise Mistake("a mistake of ours")
        return call(*args, **kwargs)

    return broken


def skipped(world: World) -> list[tuple[str, str]]:
    """What a sweep could not handle, and the part or the item that it was."""
    told = [(event, fields) for event, fields in world.logged if "Mistake" in str(fields.get("note"))]
    return [(event, str(fields.get("part") or fields.get("run") or fields.get("worker"))) for event, fields in told]


def test_an_offer_that_cannot_be_judged_keeps_no_other_from_being_sent_again() -> None:
    world = World()
    agents = joined(world, "w1", "w2", "w3", prompt=False)
    for name in ("r1", "r2", "r3"):
        world.submit(name)
    bad = world.run("r2").id
    world.store.commit = breaking(  # type: ignore[method-assign]
        world.store.commit, lambda *writes: any(getattr(write.record, "id", None) == bad for write in writes)
    )
    world.messenger.sent.clear()
    world.sweep(after=16)
    assert skipped(world) == [("run_not_swept", bad)]
    again = {getattr(sent.message, "run", None) for sent in world.messenger.sent}
    assert {world.run("r1").id, world.run("r3").id} <= again
    assert len(agents) == 3


def test_a_worker_that_cannot_be_asked_keeps_no_other_from_being_asked() -> None:
    world = World()
    agents = joined(world, "w1", "w2", "w3")
    for one in agents:
        world.disconnect(one.worker_id)
    bad = sorted(one.worker_id for one in agents)[0]
    world.messenger.take()
    world.messenger.send = breaking(world.messenger.send, lambda pool, worker, *_, **__: worker == bad)  # type: ignore[method-assign]
    world.sweep(after=5)
    assert ("worker_not_swept", bad) in skipped(world)
    asked = {sent.worker_id for sent in world.messenger.sent if isinstance(sent.message, Who)}
    assert asked == {one.worker_id for one in agents} - {bad}


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("offers", "_offers"),
        ("workers", "_call_back"),
        ("launches", "follow_launches"),
        ("waiting", "fail_waiting"),
        ("match", "match"),
        ("warm", "launch_tasks"),
        ("strays", "stop_strays"),
    ],
)
def test_a_part_of_a_sweep_that_breaks_takes_none_of_the_others_along(
    monkeypatch: pytest.MonkeyPatch, part: str, name: str
) -> None:
    world = World(PoolKind.FARGATE, warm=1, runs_per_worker=9)
    agents = idle_tasks(world)
    monkeypatch.setattr(sweep, name, breaking(getattr(sweep, name), lambda *_, **__: True))
    world.sweep(after=360)
    assert ("pool_not_swept", part) in skipped(world)
    # The last part has had its turn: all but the one that is kept warm leave.
    found = [world.table.worker(world.pool.id, one.worker_id) for one in agents]
    assert len(found) > 1
    assert sum(worker is not None and worker.state is WorkerState.IDLE for worker in found) == 1


def test_a_pool_that_breaks_keeps_no_other_from_its_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    joined(world, "w1")
    others = [PoolEntry(pool_id=f"P{number}", name=f"pool-{number}") for number in range(3)]
    entries = world.table.pools()
    seen: list[str] = []
    monkeypatch.setattr(world.store, "pools", lambda: [others[0], *entries, *others[1:]], raising=False)

    def sweep_pool(_ports: object, _pools: object, pool_id: str, _until: object) -> None:
        if pool_id == "P1":
            raise Mistake("a mistake of ours")
        seen.append(pool_id)

    monkeypatch.setattr(sweep, "_sweep_pool", sweep_pool)
    world.sweep(after=60)
    assert sorted(seen) == sorted(["P0", "P2", world.pool.id])
    assert [fields["pool"] for event, fields in world.logged if event == "pool_not_swept"] == ["P1"]


def idle_tasks(world: World) -> list[FakeAgent]:
    """The tasks of two runs, and the one that is kept warm, when all of them have become idle."""
    for name in ("r1", "r2"):
        world.submit(name)
    agents = [agent(world, ids.task_id(task.arn), launch=task.launch_id) for task in world.tasks.running]
    for one in agents:
        one.register()
    settle_down(world, *agents)
    for one in agents:
        if one.held:
            one.finish()
    settle_down(world, *agents)
    return agents
