"""Retry: what an ended run was asked for, asked for once more."""

import pytest
from quaymaster.dispatcher.steering.cancel import cancel_run
from quaymaster.dispatcher.steering.retry import retry_run
from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.dispatcher.users.views import view_run
from quaymaster.domain.run import read_history
from quaymaster.domain.states import RunState
from quaymaster.domain.steering import person
from quaymaster.errors import Conflict, Refused
from quaymaster.ports import QueueName

from tests.shared.memory.agents import running
from tests.shared.memory.world import World

DEPLOYMENT = Deployment(namespace="quaymaster", ssm_prefix="/quaymaster/quaymaster", bucket="b")
WHO = "arn:aws:sts::123456789012:assumed-role/Admins/alice"


def retried(world: World, run: str) -> str:
    accepted = retry_run(world.ports, run, WHO, "once more")
    bodies = world.queue.take()
    assert world.request(*bodies, queue=QueueName.INTERNAL) == []
    return accepted.run


def test_a_retry_is_a_new_run_of_the_same_request_and_both_know_of_each_other():
    world = World()
    running(world, environment={"A": "1"}, type="tracked", stack="s", run_timeout="9m", retryable=True).finish()
    first = world.run("r1")
    second = retried(world, first.id)
    (old, old_spec), (new, new_spec) = (world.table.run_and_spec(run) or pytest.fail(run) for run in (first.id, second))
    assert new.id != old.id
    assert (new.type, new.stack, new.retryable) == (old.type, old.stack, old.retryable)
    for name in ("command", "environment", "image", "workspace", "log_timeout", "run_timeout"):
        assert getattr(new_spec, name) == getattr(old_spec, name)
    assert new_spec.requester == WHO
    assert read_history(new)[0].note == "retried by alice: once more"
    assert view_run(world.ports, (old, old_spec), DEPLOYMENT).retried_as == second
    assert view_run(world.ports, (new, new_spec), DEPLOYMENT).retry_of == first.id


def test_asked_twice_it_is_the_same_run():
    world = World()
    running(world).finish()
    first = world.run("r1").id
    assert retried(world, first) == retried(world, first)
    assert len(world.table.runs_of(world.pool.id, 10, None).runs) == 2


def test_of_several_phases_all_begin_anew_and_what_was_confirmed_is_not_any_more():
    world = World()
    phases = [
        {"name": "plan", "command": ["plan"], "retryable": True},
        {"name": "apply", "command": ["apply"], "needs_confirmation": True},
    ]
    assert world.request({"schema": 1, "id": "r1", "pool": world.pool.name, "phases": phases, "on_end": [["x"]]}) == []
    cancel_run(world.ports, world.run("r1").id, "alice")
    second = retried(world, world.run("r1").id)
    found = [world.table.run_and_spec(run) or pytest.fail(run) for run in (world.run("r1").id, second)]
    (_, old_spec), (new, new_spec) = found
    assert (new_spec.phases, new_spec.on_end) == (old_spec.phases, old_spec.on_end)
    assert (new.phase, new.confirmed_at, new_spec.metadata) == (0, None, {})


def test_a_retry_can_be_retried():
    world = World()
    running(world).finish()
    second = retried(world, world.run("r1").id)
    cancel = world.table.run(second)
    assert cancel
    if cancel.state is not RunState.CANCELED:
        cancel_run(world.ports, second, "alice")
    assert retried(world, second) not in (second, world.run("r1").id)


def test_a_run_that_has_not_ended_is_not_retried():
    world = World()
    world.submit("r1")
    with pytest.raises(Conflict, match="found READY; a run that has ended"):
        retry_run(world.ports, world.run("r1").id, WHO)


def test_a_workspace_that_has_expired_is_named():
    world = World()
    key = f"inputs/{world.pool.id}/abc/workspace.tar.gz"
    world.blobs.write(key, b"packed")
    run = world.submit("r1", workspace={"key": key})
    cancel_run(world.ports, run.id, "alice")
    retried(world, run.id)
    del world.blobs.objects[key]
    with pytest.raises(Refused, match="which has expired; one that is there: start the run anew, with its folder"):
        retry_run(world.ports, run.id, WHO)


@pytest.mark.parametrize(
    ("arn", "name"),
    [
        ("arn:aws:sts::1:assumed-role/Admins/alice@example.com", "alice@example.com"),
        ("arn:aws:iam::1:user/team/bob", "bob"),
        ("arn:aws:iam::1:root", "root"),
        ("", "a user"),
        ("arn:aws:sts::1:assumed-role/A/a|b c\n", "abc"),
        ("arn:aws:iam::1:user/" + "x" * 99, "x" * 48),
    ],
)
def test_a_person_is_named_by_the_end_of_the_arn(arn: str, name: str):
    assert person(arn) == name
