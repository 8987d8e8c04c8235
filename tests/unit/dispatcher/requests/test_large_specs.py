"""A command or environment that no message carries travels by the bucket."""

import hashlib
import json

import pytest
from quaymaster.adapters.iot.messenger import MAX_MESSAGE_BYTES
from quaymaster.domain.execve import MAX_STRING_BYTES
from quaymaster.domain.messages import Assign
from quaymaster.domain.requests import MAX_REQUEST_BYTES, RunRequest
from quaymaster.domain.states import RunState
from quaymaster.ports import Write

from tests.shared.memory.agents import joined
from tests.shared.memory.invariants import check
from tests.shared.memory.world import World

CJK = ["echo", "界" * 30_000, "界" * 30_000]
"""60,000 characters, 180,000 bytes."""


def wire(name: str, **fields: object) -> str:
    """A request as a requester may send it: characters as they are."""
    return json.dumps({"schema": 1, "id": name, "pool": "team-a", "command": ["true"], **fields}, ensure_ascii=False)


def assigned(world: World) -> Assign:
    (message,) = (sent.message for sent in world.messenger.sent if isinstance(sent.message, Assign))
    return message


def test_a_command_over_64_kib_lies_in_the_bucket_and_its_assignment_leads_there():
    world = World()
    joined(world, "w1")
    assert world.request(wire("r1", command=CJK, environment={"A": "b"})) == []
    message = assigned(world)
    assert len(message.encode()) < MAX_MESSAGE_BYTES / 2
    assert (message.command, message.environment) == ([], {})
    assert message.spec
    key = message.spec.url.removeprefix("memory:GET:").partition("?")[0]
    body = world.blobs.objects[key].body
    assert json.loads(body) == {"command": CJK, "environment": {"A": "b"}}
    assert hashlib.sha256(body).hexdigest() == message.spec.sha256
    assert world.run("r1").state is RunState.PREPARING
    check(world)


def test_what_a_message_carries_touches_no_bucket():
    world = World()
    joined(world, "w1")
    world.blobs.down = "the bucket is away"
    assert world.request(wire("r1", environment={"BIG": "x" * 60_000})) == []
    assert assigned(world).spec is None
    assert world.blobs.objects == {}


def test_nothing_is_written_of_a_run_whose_command_could_not_be_kept_and_its_neighbours_go_on():
    world = World()
    joined(world, "w1")
    world.blobs.down = "the bucket is away"
    assert world.request(wire("large", command=CJK), wire("small")) == ["message-1"]
    assert world.table.run_and_spec(world.run("small").id)
    with pytest.raises(AssertionError, match="no run"):
        world.run("large")
    world.blobs.down = None
    assert world.request(wire("large", command=CJK)) == []
    assert world.run("large").state is RunState.READY
    check(world)


def test_the_object_is_there_before_the_run_is():
    world = World()
    joined(world, "w1")
    commit = world.store.commit

    def committing(*writes: Write) -> None:
        assert len(world.blobs.objects) == 1
        commit(*writes)

    world.store.commit = committing  # type: ignore[method-assign]
    assert world.request(wire("r1", command=CJK)) == []
    assert world.run("r1").state is RunState.PREPARING


def test_an_id_with_another_large_command_does_not_change_what_its_run_executes():
    world = World()
    (one,) = joined(world, "w1")
    assert world.request(wire("r1", command=CJK)) == []
    first = assigned(world)
    world.messenger.sent.clear()
    assert world.request(wire("r1", command=["something", "else" * 20_000])) == []
    (again,) = world.messenger.sent
    assert isinstance(again.message, Assign)
    assert again.message.spec
    assert first.spec
    assert again.message.spec.sha256 == first.spec.sha256
    assert one.worker_id == again.worker_id


def test_the_largest_request_fits_with_all_that_goes_along():
    """In bytes, not in characters; whatever JSON has to escape."""
    for text in ("x", "界", '"', "\n", "\x01"):
        world = World()
        joined(world, "w1")
        per = len(json.dumps(text, ensure_ascii=False).encode()) - 2
        room = MAX_REQUEST_BYTES - 2_000
        one = text * min(room // 2 // per, MAX_STRING_BYTES // len(text.encode()))
        request = RunRequest(
            id="r1",
            pool="team-a",
            command=("echo", one, one),
        )
        assert len(request.encode()) <= MAX_REQUEST_BYTES
        assert world.request(request.encode().decode()) == []
        assert len(assigned(world).encode()) <= MAX_MESSAGE_BYTES
        assert world.run("r1").state is RunState.PREPARING


def test_large_phases_lie_in_the_bucket_and_their_names_and_timeouts_go_along():
    world = World()
    joined(world, "w1")
    large = {"name": "two", "command": CJK, "before": [["init"]], "environment": {"A": "b"}, "needs_confirmation": True}
    phases = [{"name": "one", "command": ["true"], "run_timeout": "9m"}, large]
    body = wire("r1", command=[], phases=phases, on_end=[["tidy"]], environment={"C": "d"})
    assert world.request(body) == []
    assign = assigned(world)
    assert assign.spec
    assert [(phase.name, phase.command, phase.run_timeout_seconds) for phase in assign.phases] == [("one", [], 540)]
    assert (assign.on_end, assign.environment) == ([], {})
    key = assign.spec.url.removeprefix("memory:GET:").partition("?")[0]
    found = json.loads(world.blobs.objects[key].body)
    assert [phase["command"] for phase in found["phases"]] == [["true"], CJK]
    assert (found["phases"][1]["before"], found["phases"][1]["environment"]) == ([["init"]], {"A": "b"})
    assert (found["on_end"], found["environment"], found["command"]) == ([["tidy"]], {"C": "d"}, [])
