"""Secrets planted in every field of every input, in every malformed form: none comes out where people look.

A dead letter's body is the message itself, and is sent again as it is; nothing else that is said of it repeats a value.
What is taken may of course stand in the table: that is checked only where the input was refused.
"""

import base64
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest
from quaymaster import wiring
from quaymaster.dispatcher.dead_letters.redrive import find_dead_letter
from quaymaster.dispatcher.dead_letters.showing import show_dead_letter
from quaymaster.domain import objects
from quaymaster.domain.messages import EVENTS
from quaymaster.ports import Ports

from tests.shared.memory.api_calls import CSR, InProcessApi
from tests.shared.memory.function_world import (
    NAMESPACE,
    POOL_ID,
    RUN_ID,
    STOPPED,
    World,
    environment,
    event,
    make_world,
)

SECRET = "Bearer hunter2/SECRET+value="
SHAPES: dict[str, Any] = {
    "text": SECRET,
    "list": [SECRET],
    "lists": [[SECRET]],
    "object": {"A": SECRET},
    "name": {SECRET: 1},
    "objects": {"A": {"B": [SECRET]}},
    "long": SECRET * 9000,
    "half a pair": f"{SECRET}\ud800",
    "NUL": f"{SECRET}\0",
    "workspace": {"key": SECRET, "sha256": SECRET},
}
NOT_JSON = [SECRET, f'{{"id": "{SECRET}', f'"{SECRET}"', f'["{SECRET}"]', f'{{"{SECRET}": 1}}', f"{SECRET}\0", ""]
REQUEST: dict[str, Any] = {
    "schema": 1,
    "kind": "run",
    "id": "planted",
    "pool": POOL_ID,
    "type": "task",
    "stack": "net",
    "command": ["true"],
    "environment": {"A": "b"},
    "workspace": {"key": f"inputs/{POOL_ID}/x/workspace.tar.gz", "sha256": "0" * 64},
    "log_timeout": "1m",
    "run_timeout": "1m",
    "retryable": False,
    "reply_to": f"{NAMESPACE}/replies/ci",
}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with environment(monkeypatch):
        yield make_world(monkeypatch)


def places(found: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a value stands in a document, at every depth."""
    if path:
        yield path
    if isinstance(found, dict):
        for name, value in cast("dict[str, object]", found).items():
            yield from places(value, (*path, name))
    elif isinstance(found, list):
        for number, value in enumerate(cast("list[object]", found)):
            yield from places(value, (*path, number))


def planted(found: Mapping[str, Any]) -> Iterator[Any]:
    """The document with the secret in each place, in each form; in a field more; and what is no such document."""
    for path in [*places(found), ("unknown",)]:
        for shape in SHAPES.values():
            made: Any = copy.deepcopy(dict(found))
            inner = made
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = shape
            yield made


def told(world: World) -> str:
    """All that is said where people look: logs (and the metrics in them), replies, messages, letters as shown."""
    letters = [letter.attributes for letter in world.queue.refused]
    shown = [show_dead_letter(letter, world.now).model_dump_json() for letter in world.queue.refused]
    messages = [sent.message.encode().decode() for sent in world.messenger.sent if not is_assignment(sent.message)]
    replies = [f"{replied.topic} {replied.message.encode().decode()}" for replied in world.messenger.replies]
    return json.dumps([world.logged, letters, shown, messages, replies], default=str)


def is_assignment(message: object) -> bool:
    """Its worker must be told what to run."""
    return getattr(message, "kind", "") == "assign"


def check(world: World, handle: Callable[[], object]) -> None:
    """Handle an input; it tells nobody, and changes nothing if it was refused."""
    before, refused = world.store.records(), len(world.queue.refused)
    try:
        handle()
    except Exception as error:
        # Its traceback is logged, and the event comes again.
        raise AssertionError("no input may break a function") from error
    said = told(world)
    assert "hunter2" not in said, said[max(0, said.index("hunter2") - 300) :][:500]
    if len(world.queue.refused) > refused:
        assert world.store.records() == before
    world.queue.refused.clear()
    world.messenger.sent.clear()
    world.messenger.replies.clear()
    world.logged.clear()


def dispatch(world: World, body: str, queue: str, sender: str = "AROA:ci") -> None:
    record = {
        "messageId": "m1",
        "body": body,
        "attributes": {"SenderId": sender},
        "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:{NAMESPACE}-{queue}",
    }
    answer = world.call("dispatch_runs", {"Records": [record]})
    assert answer == {"batchItemFailures": []}


def wrapped(payload: str) -> str:
    body = base64.b64encode(payload.encode(errors="surrogatepass")).decode()
    return json.dumps({"body": body, "client_id": "ci", "principal": "AROA:ci", "received_at": 1})


WAYS: dict[str, Callable[[World, str], None]] = {
    "sqs": lambda world, payload: dispatch(world, payload, "requests"),
    "mqtt": lambda world, payload: dispatch(world, wrapped(payload), "internal"),
    "internal": lambda world, payload: dispatch(world, payload, "internal"),
}


@pytest.mark.parametrize("way", WAYS)
def test_requests(world: World, way: str) -> None:
    for number, document in enumerate(planted(REQUEST)):
        if document.get("id") == "planted":
            document["id"] = f"planted-{number}"
        check(world, lambda document=document: WAYS[way](world, json.dumps(document)))
    for payload in NOT_JSON:
        check(world, lambda payload=payload: WAYS[way](world, payload))


INTERNAL: dict[str, dict[str, Any]] = {
    "of a function": {"request": {**REQUEST, "id": "inner"}, "by": "api", "requester": "arn"},
    "of the rule": {
        "body": base64.b64encode(json.dumps(REQUEST).encode()).decode(),
        "client_id": "ci",
        "principal": "p",
    },
    "wake-up": {"schema": 1, "kind": "wake", "pool": POOL_ID, "pk": f"run#{RUN_ID}", "sk": "run"},
}


@pytest.mark.parametrize("name", INTERNAL)
def test_what_lies_in_the_internal_queue(world: World, name: str) -> None:
    for document in planted(INTERNAL[name]):
        check(world, lambda document=document: dispatch(world, json.dumps(document), "internal"))


def held(world: World) -> None:
    """A worker holds a run, and nothing has been said yet."""
    world.hear("registered")
    world.handle("dispatch_runs.batch")
    world.hear("prepared")
    assert world.run().attempt == 1
    world.queue.refused.clear()
    world.messenger.sent.clear()
    world.messenger.replies.clear()
    world.logged.clear()


def agent_event(kind: str) -> dict[str, Any]:
    return event(f"receive_worker_events.{kind}")


@pytest.mark.parametrize("kind", [*EVENTS, "registered_holding"])
def test_what_agents_say(world: World, kind: str) -> None:
    held(world)
    found = agent_event(kind)
    for document in planted(found):
        check(world, lambda document=document: world.call("receive_worker_events", document))
    said = json.loads(base64.b64decode(found["body"]))
    for document in planted(said):
        body = base64.b64encode(json.dumps(document).encode()).decode()
        check(world, lambda body=body: world.call("receive_worker_events", {**found, "body": body}))
    for payload in NOT_JSON:
        body = base64.b64encode(payload.encode()).decode()
        check(world, lambda body=body: world.call("receive_worker_events", {**found, "body": body}))


@pytest.mark.parametrize("kind", ["connected", "disconnected"])
def test_presence(world: World, kind: str) -> None:
    for document in planted(agent_event(kind)):
        check(world, lambda document=document: world.call("receive_worker_events", document))


def test_task_events(world: World) -> None:
    for document in planted({"detail": STOPPED}):
        check(world, lambda document=document: world.call("receive_task_events", document))


def test_end_markers(world: World) -> None:
    """The bucket is written by agents too."""
    held(world)
    run = world.run()
    marker = {
        "schema": 1,
        "run": run.id,
        "attempt": run.attempt,
        "digest": {"lines": 1, "bytes": 1, "sha256": "0" * 64, "complete": True},
        "outcome": {"end": "FAILED", "reason": "exit_code", "exit_code": 3, "note": "as it was"},
    }
    for document in [*planted(marker), *NOT_JSON]:
        body = document if isinstance(document, str) else json.dumps(document)
        world.blobs.write(objects.log_end_key(run.pool_id, run.id, run.attempt), body.encode(errors="surrogatepass"))
        found = world.blobs.log_end(run.pool_id, run.id, run.attempt)
        if found is None:
            check(world, lambda: world.handle("reap_overdue.tick"))


API: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/runs", {**REQUEST, "pool": "red"}),
    ("POST", "/inputs", {"pool": "red"}),
    ("POST", "/pools", {"name": "sea", "kind": "fargate", "csr": CSR, "image": "i", "cpu": 256, "memory": 512}),
    ("POST", "/pools", {"name": "sea", "kind": "private", "csr": CSR, "settings": {"log_timeout": "1m"}}),
    ("POST", "/dead-letters/redrive", {"ids": ["one"]}),
    ("POST", "/dead-letters/purge", {"before": "2026-01-01T00:00:00Z"}),
]


@pytest.mark.parametrize(("method", "path", "body"), API)
def test_the_api(method: str, path: str, body: dict[str, Any]) -> None:
    api = InProcessApi()
    api.pool("red")
    for document in [*planted(body), *NOT_JSON]:
        text = document if isinstance(document, str) else json.dumps(document)
        before = api.store.records()
        answer = api.call(method, path, text)
        assert answer.status != 500, (text[:200], answer.body)
        if answer.status >= 400:
            assert "hunter2" not in json.dumps(answer.body)
            assert api.store.records() == before
        assert "hunter2" not in json.dumps(api.logged, default=str)
        api.logged.clear()


def test_letters_in_full(world: World) -> None:
    """`dead-letters show` tells what a letter holds by name, kind and length."""
    ports: Ports = wiring.ports()
    for document in [*planted(REQUEST), *planted(INTERNAL["of a function"]), *planted({"detail": STOPPED}), *NOT_JSON]:
        text = document if isinstance(document, str) else json.dumps(document)
        world.queue.refuse(text, "a reason", "requests")
        (letter,) = world.queue.refused
        shown = find_dead_letter(ports, letter.id).model_dump_json()
        assert "hunter2" not in shown
        world.queue.refused.clear()
