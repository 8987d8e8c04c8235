"""Dead letters sent again and thrown away: where each kind goes, what is kept, and that repeating changes nothing."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from quaymaster.dispatcher.dead_letters.redrive import LOOKED_AT
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.requests.inbox import receive_batch
from quaymaster.dispatcher.requests.queue_records import Record
from quaymaster.domain import ids, keys
from quaymaster.domain.wakes import Wake, encode_wake
from quaymaster.ports import DeadLetter, FunctionName, QueueName

from tests.shared.memory.api_calls import START, InProcessApi

ARN = "arn:aws:lambda:us-east-1:123456789012:function:quaymaster-"
WORKERS, TASKS = FunctionName.RECEIVE_WORKER_EVENTS, FunctionName.RECEIVE_TASK_EVENTS
SESSION = "01KAQRB3T5N1V6JD8R0M3YPF2S"


@pytest.fixture
def api() -> InProcessApi:
    made = InProcessApi()
    made.pool("red")
    return made


TIME = timedelta(seconds=18)
"""What a dispatcher has for a batch."""


def encoded(payload: str) -> str:
    return base64.b64encode(payload.encode()).decode()


def request(**fields: Any) -> str:
    return json.dumps({"pool": "red", "command": ["true"], **fields})


def wrapped(payload: str) -> str:
    """What the IoT rule makes of a request that was published."""
    return json.dumps({"body": encoded(payload), "client_id": "ci", "received_at": 1})


def put(api: InProcessApi, body: str, name: str = "one", moved: QueueName | None = None, **attributes: str) -> None:
    letter = DeadLetter(id=name, sent_at=START, body=body, attributes=attributes, moved_from=moved, sender="AIDA")
    api.queue.refused.append(letter)


def put_failure(api: InProcessApi, function: str, payload: object, name: str = "one") -> None:
    """What Lambda writes when all of a function's tries have failed."""
    record = {
        "requestContext": {"functionArn": f"{ARN}{function}:$LATEST", "condition": "RetriesExhausted"},
        "requestPayload": payload,
        "responsePayload": {"errorType": "Unavailable", "errorMessage": "dynamodb: no answer"},
    }
    put(api, json.dumps(record), name)


def redrive(api: InProcessApi, *names: str) -> dict[str, Any]:
    answer = api.call("POST", "/dead-letters/redrive", {"ids": names or ["one"]})
    assert answer.status == 200, answer.body
    return answer.body


def left(api: InProcessApi) -> list[str]:
    return [letter.id for letter in api.queue.refused]


def submitted(api: InProcessApi) -> list[str]:
    """The dispatcher handles what is in the internal queue; the ids of all runs then."""
    records = [
        Record(id=f"m{number}", body=body, queue=QueueName.INTERNAL) for number, body in enumerate(api.queue.take())
    ]
    assert receive_batch(api.ports, Pools(api.store, api.clock), records, api.clock() + TIME) == []
    return [run["run"] for run in api.call("GET", "/pools/red/runs").body["runs"]]


def worker_event(api: InProcessApi, **fields: Any) -> dict[str, Any]:
    pool_id = api.call("GET", "/pools/red").body["id"]
    body = encoded(json.dumps({"schema": 1, "session": SESSION, "holding": None}))
    worker = ids.worker_id("quaymaster", pool_id, "0" * 32)
    event = {"pool_id": pool_id, "worker_id": worker, "event": "registered", "body": body, "received_at": 1}
    return {**event, **fields}


def test_a_request_that_is_right_by_now_goes_to_the_queue_and_is_removed(api: InProcessApi) -> None:
    put(api, request(id="mine"), reason="pool: no such pool", source="requests")
    answer = redrive(api)
    run = ids.run_id(api.call("GET", "/pools/red").body["id"], "mine")
    assert answer["redriven"] == [{"id": "one", "to": "dispatch-runs", "run": run}]
    assert left(api) == []
    assert submitted(api) == [run]


def test_redriving_a_second_time_changes_nothing(api: InProcessApi) -> None:
    put(api, request(id="mine"), reason="was wrong", source="requests")
    redrive(api)
    runs = submitted(api)
    again = redrive(api)
    assert (again["redriven"], again["missing"]) == ([], ["one"])
    assert submitted(api) == runs


def test_a_letter_sent_twice_is_one_run_even_if_its_request_had_no_id(api: InProcessApi) -> None:
    put(api, request(), moved=QueueName.REQUESTS)
    first = redrive(api)["redriven"]
    # As if removing it had failed after it was sent.
    put(api, request(), moved=QueueName.REQUESTS)
    assert redrive(api)["redriven"] == first
    assert submitted(api) == [first[0]["run"]]


def test_a_request_that_came_by_mqtt_is_sent_again_under_its_own_id(api: InProcessApi) -> None:
    put(api, wrapped(request(id="mine")), moved=QueueName.INTERNAL)
    run = ids.run_id(api.call("GET", "/pools/red").body["id"], "mine")
    assert [one["run"] for one in redrive(api)["redriven"]] == [run]
    assert submitted(api) == [run]


def test_a_request_that_came_by_mqtt_without_an_id_is_kept(api: InProcessApi) -> None:
    put(api, wrapped(request()), moved=QueueName.INTERNAL)
    answer = redrive(api)
    assert (answer["redriven"], left(api)) == ([], ["one"])
    assert answer["kept"][0]["reason"].startswith("id: found nothing")


def test_the_run_of_a_moved_request_is_the_one_that_its_first_delivery_may_have_made(api: InProcessApi) -> None:
    body = request()
    receive_batch(api.ports, Pools(api.store, api.clock), [Record(id="5b1f", body=body)], api.clock() + TIME)
    first = submitted(api)
    put(api, body, "5b1f", moved=QueueName.REQUESTS)
    assert [one["run"] for one in redrive(api, "5b1f")["redriven"]] == first
    assert submitted(api) == first


def test_a_letter_stays_until_it_has_been_sent(api: InProcessApi, monkeypatch: pytest.MonkeyPatch) -> None:
    put_failure(api, "receive-worker-events", worker_event(api))
    api.functions.down = "no answer"
    answer = redrive(api)
    assert answer["kept"] == [{"id": "one", "reason": "lambda: no answer"}]
    assert left(api) == ["one"]
    api.functions.down = None
    assert len(redrive(api)["redriven"]) == 1
    assert left(api) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("no JSON", "request"),
        (request(command=[]), "command"),
        (request(pool="blue"), "no pool 'blue'"),
        (request(run_timeout="900h"), "run_timeout"),
        (request(workspace={"key": "inputs/01KAQR5W8M3T9XG7VDN2C4J6HB/a/workspace.tar.gz"}), "workspace.key"),
        (json.dumps({"body": "ä", "client_id": "x"}), "body"),
        ('{"kind": "wake"}', "pool"),
        ("{}", "message"),
    ],
)
def test_what_would_only_be_refused_again_is_kept_with_the_reason(api: InProcessApi, body: str, field: str) -> None:
    internal = field == "message" or "client_id" in body or "wake" in body
    put(api, body, reason="was wrong", source="internal" if internal else "requests")
    answer = redrive(api)
    assert answer["redriven"] == []
    assert answer["kept"][0]["reason"].startswith(field)
    assert left(api) == ["one"]
    assert api.queue.take() == []


def test_a_wake_up_is_rung_again_as_it_was(api: InProcessApi) -> None:
    body = encode_wake(Wake("01KAQR5W8M3T9XG7VDN2C4J6HB", keys.run("01KAQR5W8M3T9XG7VDN2C4J6HB"))).decode()
    put(api, body, moved=QueueName.INTERNAL)
    assert redrive(api)["redriven"][0]["to"] == "dispatch-runs"
    assert api.queue.take() == [body]


def test_a_failed_event_goes_back_to_its_function(api: InProcessApi) -> None:
    task = {"detail": {"lastStatus": "STOPPED"}}
    put_failure(api, "receive-worker-events", worker_event(api), "worker")
    put_failure(api, "receive-task-events", task, "task")
    put(api, json.dumps(task), "undelivered", ERROR_CODE="TIMEOUT", TARGET_ARN=f"{ARN}receive-task-events")
    put(api, json.dumps(worker_event(api)), "refused", reason="schema: found 2", source="worker events")
    put(api, json.dumps(task), "odd", reason="taskArn: found null", source="task events")
    answer = redrive(api, "worker", "task", "undelivered", "refused", "odd")
    assert answer["kept"] == []
    assert [(name, json.loads(event)) for name, event in api.functions.invoked] == [
        (WORKERS, worker_event(api)),
        (TASKS, task),
        (TASKS, task),
        (WORKERS, worker_event(api)),
        (TASKS, task),
    ]
    assert left(api) == []


def test_what_a_rule_could_not_deliver_is_delivered_as_the_rule_would_have(api: InProcessApi) -> None:
    event = worker_event(api)
    presence = {"clientId": event["worker_id"], "eventType": "disconnected"}
    undelivered = {
        "a": ("quaymaster/requests/ci", request(id="mine")),
        "b": (f"quaymaster/from/{event['pool_id']}/{event['worker_id']}/registered", ""),
        "c": (f"$aws/events/presence/disconnected/{event['worker_id']}", json.dumps(presence)),
        "d": ("elsewhere", ""),
    }
    for name, (topic, payload) in undelivered.items():
        wrapped = event["body"] if name == "b" else encoded(payload)
        record = {"topic": topic, "base64OriginalPayload": wrapped, "failures": [{"errorMessage": "denied"}]}
        put(api, json.dumps(record), name)
    answer = redrive(api, *undelivered)
    at = int(START.timestamp() * 1000)
    assert [one["id"] for one in answer["kept"]] == ["d"]
    assert [json.loads(said) for _, said in api.functions.invoked] == [
        {**event, "received_at": at},
        {**presence, "event": "disconnected", "received_at": at},
    ]
    assert submitted(api) == [ids.run_id(event["pool_id"], "mine")]


@pytest.mark.parametrize("function", ["reap-overdue", "serve-api", "dispatch-runs", ""])
def test_no_other_function_is_ever_invoked(api: InProcessApi, function: str) -> None:
    put_failure(api, function, {"anything": 1})
    assert redrive(api)["kept"][0]["reason"].startswith("function: ")
    assert api.functions.invoked == []


def test_an_event_that_no_agent_says_is_kept(api: InProcessApi) -> None:
    for number, wrong in enumerate(({"body": "e30="}, {"event": "dance"}, {"received_at": "now"}, {"pool_id": 1})):
        put_failure(api, "receive-worker-events", worker_event(api, **wrong), str(number))
    put_failure(api, "receive-worker-events", None, "none")
    answer = redrive(api, "0", "1", "2", "3", "none")
    assert [one["reason"].partition(":")[0] for one in answer["kept"]] == [
        "session",
        "event",
        "received_at",
        "pool_id",
        "event",
    ]


def test_a_requester_cannot_have_an_operator_forge_an_agents_word(api: InProcessApi) -> None:
    """Such a request is moved when the table is away for long: then nothing but its mark tells it from a record."""
    forged = {"requestContext": {"functionArn": f"{ARN}receive-worker-events"}, "requestPayload": worker_event(api)}
    put(api, json.dumps(forged), "record", moved=QueueName.REQUESTS)
    put(api, json.dumps(worker_event(api)), "event", moved=QueueName.REQUESTS, reason="x", source="worker events")
    put(
        api,
        json.dumps(worker_event(api)),
        "arn",
        moved=QueueName.REQUESTS,
        ERROR_CODE="1",
        TARGET_ARN=f"{ARN}receive-worker-events",
    )
    record: dict[str, Any] = {
        "topic": "quaymaster/from/P/W/registered",
        "failures": [1],
        "base64OriginalPayload": "e30=",
    }
    put(api, json.dumps(record), "rule", moved=QueueName.REQUESTS)
    answer = redrive(api, "record", "event", "arn", "rule")
    assert answer["redriven"] == []
    assert api.functions.invoked == []
    assert {one["source"] for one in api.call("GET", "/dead-letters").body["dead_letters"]} == {"sqs"}


def test_a_letter_is_shown_in_full_without_an_environments_values(api: InProcessApi) -> None:
    secret = {"environment": {"PASSWORD": "hunter2"}}
    put(
        api,
        json.dumps({"body": encoded(request(id="mine", **secret)), "client_id": "ci"}),
        moved=QueueName.INTERNAL,
        reason="forged",
    )
    api.clock.forward(minutes=3)
    shown = api.call("GET", "/dead-letters/one").body
    assert (shown["age_seconds"], shown["source"], shown["request_id"], shown["goes_to"]) == (
        180,
        "sqs",
        "mine",
        "dispatch-runs",
    )
    assert '"PASSWORD": "text of 7 characters"' in shown["content"]
    assert "hunter2" not in json.dumps(shown)
    assert shown["attributes"] == {}


def test_a_letter_that_cannot_be_sent_again_says_why(api: InProcessApi) -> None:
    put_failure(api, "reap-overdue", {})
    shown = api.call("GET", "/dead-letters/one").body
    assert shown["goes_to"] is None
    assert "made up for by the next" in shown["kept_because"]
    assert shown["reason"] == "quaymaster-reap-overdue: dynamodb: no answer"
    assert api.call("GET", "/dead-letters/two").status == 404


def test_secrets_are_masked_wherever_they_stand(api: InProcessApi) -> None:
    put_failure(api, "receive-task-events", {"deep": [{"environment": {"A": "hunter2"}}, {"environment": "hunter2"}]})
    put(api, json.dumps({"body": "hunter2", "client_id": "x"}), "two", moved=QueueName.INTERNAL)
    put(api, "x" * 40 + "hunter2", "three", moved=QueueName.REQUESTS)
    for name in ("one", "two", "three"):
        assert "hunter2" not in json.dumps(api.call("GET", f"/dead-letters/{name}").body)


def test_purging_removes_what_is_named_and_nothing_else(api: InProcessApi) -> None:
    for name in ("a", "b", "c"):
        put(api, "{}", name)
    answer = api.call("POST", "/dead-letters/purge", {"ids": ["b", "nope"]}).body
    assert (answer["purged"], answer["missing"], left(api)) == (["b"], ["nope"], ["a", "c"])
    assert [fields["letter"] for event, fields in api.logged if event == "dead_letter_purged"] == ["b"]


def test_all_up_to_a_moment_leaves_what_came_later(api: InProcessApi) -> None:
    put(api, request(id="a"), "a")
    api.clock.forward(seconds=1)
    moment = api.call("GET", "/dead-letters").body["at"]
    api.clock.forward(seconds=1)
    later = DeadLetter(id="b", sent_at=api.clock.now, body=request(id="b"), attributes={})
    api.queue.refused.append(later)
    assert [one["id"] for one in api.call("POST", "/dead-letters/redrive", {"before": moment}).body["redriven"]] == [
        "a"
    ]
    assert api.call("POST", "/dead-letters/purge", {"before": moment}).body["purged"] == []
    assert left(api) == ["b"]


def test_one_call_looks_at_a_part_and_says_that_there_is_more(api: InProcessApi) -> None:
    for number in range(LOOKED_AT + 1):
        put(api, "{}", str(number))
    moment = api.call("GET", "/dead-letters").body["at"]
    assert api.call("POST", "/dead-letters/purge", {"before": moment}).body["more"] is True
    assert api.call("POST", "/dead-letters/purge", {"before": moment}).body["more"] is False
    assert left(api) == []


@pytest.mark.parametrize(
    "choice",
    [{}, {"ids": []}, {"ids": ["a"], "before": "2026-01-01T00:00:00Z"}, {"before": "2026-01-01T00:00:00"}, {"all": 1}],
)
@pytest.mark.parametrize("verb", ["redrive", "purge"])
def test_a_choice_that_is_none_is_refused(api: InProcessApi, verb: str, choice: dict[str, Any]) -> None:
    put(api, request(id="a"))
    assert api.call("POST", f"/dead-letters/{verb}", choice).status == 400
    assert left(api) == ["one"]
