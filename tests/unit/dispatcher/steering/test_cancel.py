"""Cancel: a run that has not begun never will; of cancel and begin exactly one wins."""

import pytest
from quaymaster.dispatcher.steering.cancel import cancel_run
from quaymaster.domain.messages import Refused
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.run import read_history
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import WorkerState
from quaymaster.errors import Busy, Conflict, Lost, NotFound

from tests.shared.memory.agents import FakeAgent, joined, preparing, running, settle_down
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World


def cancel(world: World, name: str = "r1", note: str = "") -> RunState:
    return cancel_run(world.ports, world.run(name).id, "alice", note).state


def test_a_run_that_waits_is_canceled_with_its_ticket():
    world = World()
    world.submit("r1")
    assert cancel(world, note="not needed") is RunState.CANCELED
    run = world.run("r1")
    assert (run.reason, run.note, run.due_at) == (Reason.BY_USER, "not needed", None)
    assert [(change.state, change.by, change.note) for change in read_history(run)][-1] == (
        RunState.CANCELED, "alice", "not needed",
    )  # fmt: skip
    assert world.table.tickets(world.pool.id, 10) == []
    check(world)
    (one,) = joined(world, "w1")
    assert one.begun == []
    assert world.worker(one.worker_id).state is WorkerState.IDLE


def test_said_twice_it_is_the_same_and_nothing_is_written():
    world = World()
    world.submit("r1")
    cancel(world, note="first")
    before = world.run("r1")
    assert cancel(world, note="second") is RunState.CANCELED
    assert world.run("r1") == before


def test_a_run_in_preparation_is_taken_back_and_its_worker_takes_the_next():
    world = World()
    one = preparing(world)
    world.submit("r2")
    assert cancel(world) is RunState.CANCELED
    check(world)
    assert world.worker(one.worker_id).state is WorkerState.ASKED
    one.prompt = True
    settle_down(world, one)
    check(world)
    assert any(isinstance(message, Refused) for message in one.heard)
    assert one.begun == [(world.run("r2").id, 1)]


def test_a_worker_that_hears_nothing_of_it_begins_nothing():
    world = World()
    one = preparing(world)
    cancel(world)
    world.messenger.sent.clear()
    one.prepare()
    settle_down(world, one)
    assert one.begun == []
    check(world)
    world.sweep(after=60)
    settle_down(world, one)
    assert world.worker(one.worker_id).state is WorkerState.IDLE


def test_a_run_that_has_begun_is_not_canceled_and_says_what_ends_it():
    world = World()
    running(world)
    with pytest.raises(Conflict, match="RUNNING; a run that has not begun: stop this one, or kill it"):
        cancel(world)
    assert world.run("r1").state is RunState.RUNNING


def test_an_ended_run_says_how_it_ended():
    world = World()
    running(world).finish()
    with pytest.raises(Conflict, match="found FINISHED; a run that has not ended"):
        cancel(world)


def test_a_run_that_is_not_there():
    with pytest.raises(NotFound, match="no run 'NOBODY'"):
        cancel_run(World().ports, "NOBODY", "alice")


def meeting(world: World, one: FakeAgent, at: int) -> None:
    """The worker says that it is prepared just before the commit of this number."""
    commits = 0

    def before(name: str) -> None:
        nonlocal commits
        if name == "commit":
            commits += 1
            if commits == at:
                one.prepare()

    world.store.before = before


@pytest.mark.parametrize("at", [1, 2])
def test_of_cancel_and_begin_one_wins(at: int):
    world = World()
    one = preparing(world)
    meeting(world, one, at)
    try:
        state = cancel(world)
    except Conflict:
        state = RunState.RUNNING
    world.store.before = lambda name: None
    settle_down(world, one)
    check(world)
    run = world.run("r1")
    assert run.state is state
    assert bool(one.begun) is (state is RunState.RUNNING)


def test_a_claim_that_comes_between_is_seen():
    world = World()
    world.submit("r1")
    commits = 0

    def before(name: str) -> None:
        nonlocal commits
        commits += name == "commit"
        if name == "commit" and commits == 1:
            joined(world, "w1", prompt=False)

    world.store.before = before
    assert cancel(world) is RunState.CANCELED
    check(world)


def test_it_gives_up_where_others_keep_writing():
    world = World()
    world.submit("r1")

    def lose(*_: object) -> None:
        raise Lost([])

    world.store.commit = lose  # type: ignore[method-assign]
    with pytest.raises(Busy):
        cancel(world)


def test_the_task_of_a_canceled_run_has_nothing_to_do():
    world = World(PoolKind.FARGATE, images=("red",))
    world.submit("r1", image="red")
    cancel(world)
    check(world)
    assert world.table.bound(world.pool.id, 10) == []
