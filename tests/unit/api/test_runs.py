"""The API's routes about runs, inputs and dead letters, over memory ports."""

import json
from dataclasses import replace
from typing import Any

import pytest
from quaymaster.domain.ids import run_id
from quaymaster.domain.messages import LogDigest, Outcome
from quaymaster.domain.requests import check_request
from quaymaster.domain.states import Reason
from quaymaster.ports import DeadLetter

from tests.shared.memory.api_calls import SIGNER, START, InProcessApi
from tests.shared.memory.run_records import FINISHED, add_run, begin, end, prepare


@pytest.fixture
def api() -> InProcessApi:
    api = InProcessApi()
    api.pool("red")
    return api


def test_a_requested_run_is_queued_and_its_id_is_known_at_once(api: InProcessApi) -> None:
    wanted = {
        "id": "mine",
        "pool": "red",
        "command": ["sh", "-c", "true"],
        "environment": {"A": "b"},
        "log_timeout": "1m",
    }
    answer = api.call("POST", "/runs", wanted)
    pool_id = api.call("GET", "/pools/red").body["id"]
    assert answer.status == 202
    assert answer.body == {"run": run_id(pool_id, "mine"), "request_id": "mine", "pool": pool_id}
    (queued,) = api.queue.take()
    said = json.loads(queued)
    assert (said["by"], said["requester"]) == ("api", SIGNER)
    request = check_request(said["request"])
    assert (request.id, request.pool, request.environment) == ("mine", pool_id, {"A": "b"})
    assert request.log_timeout
    assert request.log_timeout.total_seconds() == 60


PHASES = [
    {"name": "plan", "command": ["plan"], "run_timeout": "9m"},
    {"name": "apply", "command": ["apply"], "needs_confirmation": True},
]


def test_a_request_may_have_phases(api: InProcessApi) -> None:
    accepted = api.call("POST", "/runs", {"pool": "red", "phases": PHASES, "on_end": [["notify"]]})
    assert accepted.status == 202
    (queued,) = api.queue.take()
    request = check_request(json.loads(queued)["request"])
    assert [(phase.name, phase.needs_confirmation) for phase in request.phases] == [("plan", False), ("apply", True)]


@pytest.mark.parametrize(
    ("phases", "field"),
    [
        ([*PHASES, PHASES[0]], "phases.2.name"),
        ([PHASES[1]], "phases.0.needs_confirmation"),
        ([{"name": "plan"}], "phases.0.command"),
        ([PHASES[0] | {"run_timeout": "100h"}], "phases.0.run_timeout"),
        ([PHASES[0] | {"environment": {"A": "x" * 140_000}}], "phases.0.environment.A"),
    ],
)
def test_phases_that_make_no_sense_are_refused_by_their_field(
    api: InProcessApi, phases: list[dict[str, Any]], field: str
) -> None:
    answer = api.call("POST", "/runs", {"pool": "red", "phases": phases})
    assert (answer.status, answer.body["field"]) == (400, field)
    assert not api.queue.take()


def test_the_same_request_leads_to_the_same_run_and_another_to_another(api: InProcessApi) -> None:
    wanted = {"pool": "red", "command": ["true"]}
    first, again = (api.call("POST", "/runs", {**wanted, "id": "mine"}).body["run"] for _ in range(2))
    others = {api.call("POST", "/runs", wanted).body["run"] for _ in range(2)}
    assert first == again
    assert len({first, *others}) == 3


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"pool": "nope"}, 404, "no pool 'nope'"),
        ({"command": []}, 400, "command"),
        ({"command": ["  "]}, 400, "first word is empty"),
        ({"schema": 99}, 400, "schema 99 is not read"),
        ({"log_timeout": "3h"}, 400, "log_timeout"),
        ({"run_timeout": "48h"}, 400, "run_timeout"),
        ({"run_timeout": "soon"}, 400, "a duration is written like"),
        ({"id": "x" * 65}, 400, "id"),
        ({"environment": {"A-B": "hunter2"}}, 400, "environment"),
        ({"environment": {"A": ["hunter2"]}}, 400, "environment.A"),
        ({"environment": {str(number): "x" for number in range(9)}}, 400, "environment"),
        ({"environment": {f"N{number}": "x" * 60_000 for number in range(4)}}, 400, "at most 229376 bytes"),
        ({"environment": {"BIG": "x" * 131_072}}, 400, "environment.BIG: found 131076 bytes"),
        ({"command": ["echo", "界" * 45_000]}, 400, "command.1: found 135000 bytes"),
        ({"workspace": {"key": "logs/x"}}, 400, "workspace.key"),
    ],
)
def test_a_malformed_request_is_refused_before_it_is_queued(
    api: InProcessApi, change: dict[str, object], status: int, said: str
) -> None:
    answer = api.call("POST", "/runs", {"pool": "red", "command": ["true"], **change})
    assert answer.status == status
    assert said in answer.body["error"]
    assert "hunter2" not in answer.body["error"]
    assert api.queue.take() == []


def test_a_queue_that_does_not_answer_is_told_and_may_be_tried_again(api: InProcessApi) -> None:
    api.queue.down = "no answer"
    answer = api.call("POST", "/runs", {"pool": "red", "command": ["true"]})
    assert answer.status == 503
    assert answer.headers["retry-after"]


def test_a_run_is_found_by_its_id_and_by_its_requests_id(api: InProcessApi) -> None:
    run = add_run(api, request="mine")
    assert api.call("GET", f"/runs/{run.id}").body["run"] == run.id
    assert api.call("GET", "/runs/mine", pool="red").body["run"] == run.id
    assert api.call("GET", f"/runs/{run.id}", pool="red").body["run"] == run.id
    assert api.call("GET", "/runs/mine").status == 404


def test_a_run_is_shown_without_the_values_of_its_environment(api: InProcessApi) -> None:
    run = add_run(api)
    shown = api.call("GET", f"/runs/{run.id}").body
    assert shown["environment"] == ["SECRET"]
    assert "hunter2" not in json.dumps(shown)


def test_a_run_tells_where_its_log_lies_once_it_has_an_attempt(api: InProcessApi) -> None:
    run = add_run(api)
    assert api.call("GET", f"/runs/{run.id}").body["log"] is None
    prepare(api, run)
    place = api.call("GET", f"/runs/{run.id}").body["log"]
    assert place["bucket"] == "bucket"
    assert place["key"] == f"logs/{run.pool_id}/{run.id}/000001/log.ndjson.gz"


def test_a_run_that_ended_tells_how(api: InProcessApi) -> None:
    run = begin(api, add_run(api))
    api.clock.forward(seconds=5)
    outcome = Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=7, note="exit code 7")
    end(api, run, outcome, LogDigest(lines=3, bytes=30))
    shown = api.call("GET", f"/runs/{run.id}").body
    assert (shown["state"], shown["reason"], shown["exit_code"], shown["note"]) == (
        "FAILED",
        "exit_code",
        7,
        "exit code 7",
    )
    assert shown["digest"]["lines"] == 3
    assert [change["state"] for change in shown["history"]] == ["READY", "PREPARING", "RUNNING", "FAILED"]
    assert (shown["log_timeout"], shown["run_timeout"]) == ("7m", "1h10m")


def test_runs_are_listed_newest_first_page_by_page(api: InProcessApi) -> None:
    runs: list[str] = []
    for number in range(5):
        api.clock.forward(seconds=1)
        runs.append(add_run(api, request=str(number)).id)
    listed: list[str] = []
    cursor = None
    for _ in range(3):
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = api.call("GET", "/pools/red/runs", **query).body
        listed += [one["run"] for one in page["runs"]]
        cursor = page["cursor"]
    assert listed == runs[::-1]
    assert cursor is None


def test_runs_are_listed_by_their_state(api: InProcessApi) -> None:
    ended = end(api, begin(api, add_run(api, request="ended")), FINISHED)
    waiting = add_run(api, request="waiting")
    found = {
        state: [one["run"] for one in api.call("GET", "/pools/red/runs", state=state).body["runs"]]
        for state in ("FINISHED", "READY", "RUNNING")
    }
    assert found == {"FINISHED": [ended.id], "READY": [waiting.id], "RUNNING": []}


def test_a_cursor_that_is_none_and_a_limit_out_of_bounds_are_refused(api: InProcessApi) -> None:
    for query, field in (({"cursor": "nonsense"}, "cursor"), ({"limit": 0}, "limit"), ({"state": "DONE"}, "state")):
        answer = api.call("GET", "/pools/red/runs", **query)
        assert (answer.status, answer.body["field"]) == (400, field)


def test_why_names_what_a_run_waits_for(api: InProcessApi) -> None:
    run = add_run(api)
    answer = api.call("GET", f"/runs/{run.id}/why").body
    assert answer["state"] == "READY"
    assert "no worker of pool red is connected" in answer["why"]


def test_inputs_are_put_below_the_pools_own_prefix_with_a_fresh_name(api: InProcessApi) -> None:
    pool_id = api.call("GET", "/pools/red").body["id"]
    places = [api.call("POST", "/inputs", {"pool": "red"}).body for _ in range(2)]
    assert len({place["key"] for place in places}) == 2
    for place in places:
        assert place["key"].startswith(f"inputs/{pool_id}/")
        assert place["key"] in place["url"]


def test_dead_letters_are_shown_with_their_reason_and_without_secrets(api: InProcessApi) -> None:
    body = json.dumps({"id": "mine", "pool": "red", "command": [], "environment": {"PASSWORD": "hunter2"}})
    api.queue.refuse(body, "command: found []", "sqs")
    (letter,) = api.call("GET", "/dead-letters").body["dead_letters"]
    assert (letter["reason"], letter["source"]) == ("command: found []", "sqs")
    assert (letter["request_id"], letter["pool"]) == ("mine", "red")
    assert "hunter2" not in letter["body"]


def test_dead_letters_of_every_writer_are_read(api: InProcessApi) -> None:
    invocation = {
        "requestContext": {
            "functionArn": "arn:aws:lambda:us-east-1:1:function:ns-reap:$LATEST",
            "condition": "Retries",
        },
        "requestPayload": {"environment": {"A": "hunter2"}},
        "responsePayload": {"errorType": "Busy", "errorMessage": "too much"},
    }
    rule = {"ruleName": "ns_requests", "failures": [{"errorMessage": "no such queue"}], "base64OriginalPayload": "e30="}
    letters: list[tuple[str, dict[str, str], str, str]] = [
        (json.dumps(invocation), {}, "function", "ns-reap: too much"),
        (json.dumps(rule), {}, "mqtt rule", "no such queue"),
        ("{}", {"ERROR_CODE": "NO_PERMISSIONS", "ERROR_MESSAGE": "may not"}, "eventbridge", "may not"),
        ('{"pool": "red"}', {}, "sqs", "every delivery of it failed; the log of dispatch_runs says why"),
        ("hunter2 " * 20, {"reason": "not JSON", "source": "mqtt"}, "mqtt", "not JSON"),
    ]
    for number, (body, attributes, _, _) in enumerate(letters):
        letter = DeadLetter(id=str(number), sent_at=START, body=body, attributes=attributes)
        api.queue.refused.append(replace(letter))
    shown = api.call("GET", "/dead-letters").body["dead_letters"]
    assert [(one["source"], one["reason"]) for one in shown] == [(source, reason) for _, _, source, reason in letters]
    assert all("hunter2" not in one["body"] for one in shown[:4])
    assert shown[4]["body"] == "text of 160 characters"
