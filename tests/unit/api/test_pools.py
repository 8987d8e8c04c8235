"""The API's routes about pools, over memory ports."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from quaymaster.adapters.memory.certificates import MemoryCertificates
from quaymaster.domain.states import Reason
from quaymaster.domain.trouble import StartFailure, TroubleKind
from quaymaster.domain.worker import WorkerState
from quaymaster.errors import Busy, Lost, QuaymasterError, Refused, Unavailable
from quaymaster.ports import Replace, Write

from tests.shared.memory.api_calls import CSR, InProcessApi
from tests.shared.memory.run_records import add_run, add_worker


@pytest.fixture
def api() -> InProcessApi:
    return InProcessApi()


def test_a_created_pool_is_answered_with_its_token_and_found_by_name_and_by_id(api: InProcessApi) -> None:
    answer = api.call(
        "POST", "/pools", {"name": "red", "kind": "private", "csr": CSR, "settings": {"log_timeout": "90s"}}
    )
    assert answer.status == 201
    pool = answer.body["pool"]
    assert pool["settings"]["log_timeout"] == "1m30s"
    assert pool["settings"]["run_timeout"] == "1h10m"
    token = json.loads(base64.b64decode(answer.body["token"]))
    assert token["pool_id"] == pool["id"]
    assert token["namespace"] == "quaymaster"
    assert token["mqtt"] == [{"host": "broker.test", "port": 8883}]
    assert "BEGIN CERTIFICATE" in token["certificate"]
    assert api.call("GET", "/pools/red").body == pool
    assert api.call("GET", f"/pools/{pool['id']}").body == pool


def test_the_token_of_a_pool_is_kept_nowhere(api: InProcessApi) -> None:
    answer = api.call("POST", "/pools", {"name": "red", "kind": "private", "csr": CSR})
    token = json.loads(base64.b64decode(answer.body["token"]))
    kept = repr(api.store.records()) + repr(api.logged) + json.dumps(api.call("GET", "/pools/red").body)
    assert token["certificate"] not in kept
    assert answer.body["token"] not in kept


def test_a_fargate_pool_gets_its_own_task_definition_that_names_its_parameters(api: InProcessApi) -> None:
    wanted = {"name": "sea", "kind": "fargate", "csr": CSR, "image": "repo/worker:1", "cpu": 512, "memory": 1024}
    wanted["task_role"] = "arn:aws:iam::111122223333:role/quaymaster-run-deployer"
    answer = api.call("POST", "/pools", wanted)
    assert answer.status == 201
    pool_id = answer.body["pool"]["id"]
    assert answer.body["token_parameter"] == f"/quaymaster/quaymaster/pools/{pool_id}/token"
    assert answer.body["key_parameter"] == f"/quaymaster/quaymaster/pools/{pool_id}/private-key"
    defined = api.tasks.defined[answer.body["pool"]["task_definition"]]
    assert (defined.token_parameter, defined.key_parameter) == (
        answer.body["token_parameter"],
        answer.body["key_parameter"],
    )
    assert (defined.image, defined.cpu, defined.memory) == ("repo/worker:1", 512, 1024)
    assert defined.task_role == answer.body["pool"]["task_role"] == wanted["task_role"]


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ({"cpu": 2048, "memory": 3072}, "memory: found 3072; with 2048 CPU units 4096 to 16384 in steps of 1024 MiB"),
        # The other is the deployment's own, 4096 MiB and 2048 units.
        ({"cpu": 256}, "memory: found 4096; with 256 CPU units one of 512, 1024, 2048 MiB"),
        ({"memory": 512}, "memory: found 512; with 2048 CPU units"),
        ({"cpu": 3000}, "cpu: found 3000; one of 256, 512"),
    ],
)
def test_a_size_that_fargate_does_not_sell_is_refused_before_anything_is_made(
    api: InProcessApi, size: dict[str, int], said: str
) -> None:
    answer = api.call("POST", "/pools", {"name": "sea", "kind": "fargate", "csr": CSR, **size})
    assert answer.status == 400
    assert said in json.dumps(answer.body)
    assert api.store.records() == []
    assert api.tasks.defined == {}


@pytest.mark.parametrize(
    "role",
    [
        "arn:aws:iam::111122223333:role/admin",
        "arn:aws:iam::111122223333:role/team/quaymaster-run-x",
        "arn:aws:iam::111122223333:user/quaymaster-run-x",
        "quaymaster-run-x",
    ],
)
def test_a_role_that_was_not_offered_to_the_deployment_is_refused(api: InProcessApi, role: str) -> None:
    answer = api.call("POST", "/pools", {"name": "sea", "kind": "fargate", "csr": CSR, "task_role": role})
    assert answer.status in (400, 422)
    assert answer.body["field"].endswith("task_role")
    assert not api.certificates.issued


def test_what_tasks_could_never_start_with_is_refused_before_anything_is_made(api: InProcessApi) -> None:
    image = "111122223333.dkr.ecr.us-east-1.amazonaws.com/team/red:9"
    api.tasks.image_errors[image] = Refused("image", image, "an image that is in the repository team/red")
    api.tasks.image_errors[""] = Refused("network", "subnet-1 does not exist", "those of this account and region")
    for fields, field in (({"image": image}, "image"), ({}, "network")):
        answer = api.call("POST", "/pools", {"name": "sea", "kind": "fargate", "csr": CSR, **fields})
        assert answer.status == 400
        assert answer.body["field"] == field
    assert api.store.records() == []
    assert api.tasks.defined == {}
    assert api.call("POST", "/pools", {"name": "sea", "kind": "private", "csr": CSR}).status == 201


@pytest.mark.parametrize(
    ("images", "kept"),
    [
        ("registry.example/team/*", "registry.example/team/*"),
        (" a/b:1 , c/* ", "a/b:1,c/*"),
        ("*", "*"),
        ("", None),
    ],
)
def test_a_fargate_pool_says_which_images_its_runs_may_name(api: InProcessApi, images: str, kept: str | None) -> None:
    wanted = {"name": "sea", "kind": "fargate", "csr": CSR, "settings": {"images": images}, "architecture": "arm64"}
    answer = api.call("POST", "/pools", wanted)
    assert answer.status == 201, answer.body
    assert answer.body["pool"]["settings"].get("images") == kept
    assert answer.body["pool"]["architecture"] == "arm64"
    assert api.tasks.defined[answer.body["pool"]["task_definition"]].architecture == "arm64"


@pytest.mark.parametrize("images", ["a b", "a,,b", "a\nb", "x" * 1025, 7, "-x"])
def test_patterns_that_are_no_images_are_refused(api: InProcessApi, images: object) -> None:
    wanted = {"name": "sea", "kind": "fargate", "csr": CSR, "settings": {"images": images}}
    answer = api.call("POST", "/pools", wanted)
    assert (answer.status, answer.body["field"]) == (400, "settings.images"), answer.body


def test_a_private_pool_starts_nothing_for_images(api: InProcessApi) -> None:
    for fields in ({"settings": {"images": "*"}}, {"architecture": "arm64"}):
        answer = api.call("POST", "/pools", {"name": "red", "kind": "private", "csr": CSR, **fields})
        assert answer.status == 400
        assert "Fargate pool" in json.dumps(answer.body) or "run no images" in json.dumps(answer.body)


def test_the_client_may_choose_the_pools_id_but_not_one_that_exists(api: InProcessApi) -> None:
    chosen = "01KDYAK34800000000000000AB"
    assert api.pool("red", id=chosen)["id"] == chosen
    answer = api.call("POST", "/pools", {"name": "blue", "kind": "private", "csr": CSR, "id": chosen})
    assert (answer.status, answer.body["field"]) == (400, "id")


def test_a_name_that_exists_is_a_conflict_that_says_what_exists_and_certifies_nothing(api: InProcessApi) -> None:
    pool = api.pool("red")
    answer = api.call("POST", "/pools", {"name": "red", "kind": "private", "csr": CSR})
    assert answer.status == 409
    assert "'red'" in answer.body["error"]
    assert pool["id"] in answer.body["error"]
    assert len(api.certificates.issued) == 1


def test_a_pool_whose_token_cannot_be_made_takes_no_name(api: InProcessApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: MemoryCertificates) -> None:
        raise Unavailable("iot", "no answer")

    monkeypatch.setattr(MemoryCertificates, "endpoints", fail)
    assert api.call("POST", "/pools", {"name": "red", "kind": "private", "csr": CSR}).status == 503
    assert api.store.records() == []
    monkeypatch.undo()
    assert api.call("POST", "/pools", {"name": "red", "kind": "private", "csr": CSR}).status == 201


def test_a_name_that_is_taken_while_the_pool_is_made_is_a_conflict_too(
    api: InProcessApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = api.pool("red")

    def nobody_yet(_name: str) -> None:
        monkeypatch.undo()

    monkeypatch.setattr(api.store, "pool_named", nobody_yet)
    answer = api.call("POST", "/pools", {"name": "red", "kind": "private", "csr": CSR})
    assert answer.status == 409
    assert first["id"] in answer.body["error"]
    assert [one["id"] for one in api.call("GET", "/pools").body["pools"]] == [first["id"]]


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"name": "Red"}, "name", "Red"),
        ({"name": ""}, "name", "text of 0 characters"),
        ({"name": "a" * 64}, "name", "matches"),
        ({"kind": "cloud"}, "kind", "'private' or 'fargate'"),
        ({"csr": "nonsense"}, "csr", "certificate signing request"),
        ({"image": "repo:1"}, "image", "Fargate"),
        ({"colour": "red"}, "colour", "there is no such field"),
        ({"settings": {"log_timeouts": "1m"}}, "settings", "log_timeout"),
        ({"settings": {"log_timeout": "1 minute"}}, "settings.log_timeout", "a duration like"),
        ({"settings": {"log_timeout": "-1m"}}, "settings.log_timeout", "a duration like"),
        ({"settings": {"log_timeout": 60}}, "settings.log_timeout", "duration"),
        ({"settings": {"log_timeout": "3h"}}, "settings.log_timeout", "max_log_timeout"),
        ({"settings": {"max_run_timeout": "5m"}}, "settings.run_timeout", "at most 5m: max_run_timeout bounds it"),
        ({"settings": {"max_workers": 0}}, "settings.max_workers", "at least 1"),
        ({"settings": {"max_workers": "ten"}}, "settings.max_workers", "whole number"),
        ({"settings": {"grant_life": "10s"}}, "settings.grant_life", "at least 1m"),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused_with_the_field_named(
    api: InProcessApi, change: dict[str, Any], field: str, said: str
) -> None:
    answer = api.call("POST", "/pools", {"name": "red", "kind": "private", "csr": CSR, **change})
    assert (answer.status, answer.body["field"]) == (400, field)
    assert said in answer.body["error"]
    assert api.store.records() == []


def test_a_pool_counts_its_workers_and_its_queue(api: InProcessApi) -> None:
    api.pool("red")
    add_worker(api, WorkerState.IDLE, "idle00000")
    add_worker(api, WorkerState.BUSY, "busy00000")
    add_worker(api, WorkerState.ASKED, "asked0000")
    add_worker(api, WorkerState.GONE, "gone00000")
    add_run(api, request="one")
    add_run(api, request="two")
    counts = api.call("GET", "/pools/red").body["counts"]
    assert counts == {"idle": 1, "busy": 1, "absent": 1, "starting": 0, "queued": 2}
    assert api.call("GET", "/pools").body["pools"][0]["counts"] == counts


def test_workers_are_shown_with_what_their_agents_said(api: InProcessApi) -> None:
    api.pool("red")
    worker = add_worker(api, WorkerState.IDLE)
    (shown,) = api.call("GET", "/pools/red/workers").body["workers"]
    assert (shown["id"], shown["state"], shown["metadata"]) == (worker.id, "IDLE", {"host": "h1"})


def test_pools_are_listed_by_name(api: InProcessApi) -> None:
    for name in ("red", "blue", "green"):
        api.pool(name)
    assert [pool["name"] for pool in api.call("GET", "/pools").body["pools"]] == ["blue", "green", "red"]


def test_what_does_not_exist_is_not_found(api: InProcessApi) -> None:
    for path in ("/pools/nope", "/pools/nope/workers", "/pools/nope/runs", "/runs/nope", "/runs/nope/why"):
        answer = api.call("GET", path)
        assert answer.status == 404
        assert "nope" in answer.body["error"]
    assert api.call("GET", "/nothing").status == 404
    assert api.call("DELETE", "/pools").status == 404


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (Busy("others write"), 503, "2"),
        (Unavailable("dynamodb", "throttled"), 503, "2"),
        (Lost([]), 409, None),
        (QuaymasterError("secret detail"), 500, None),
        (RuntimeError("secret detail"), 500, None),
    ],
)
def test_each_error_has_its_status(
    api: InProcessApi, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, retry_after: str | None
) -> None:
    def fail(*_writes: Write) -> None:
        raise error

    monkeypatch.setattr(api.store, "pools", fail)
    answer = api.call("GET", "/pools")
    assert answer.status == status
    assert answer.headers.get("retry-after") == retry_after
    assert "secret" not in answer.body["error"]


def test_a_body_that_is_no_json_is_refused(api: InProcessApi) -> None:
    for body in ("{", "[]", '"text"', ""):
        answer = api.call("POST", "/pools", body)
        assert answer.status == 400, body
        assert answer.body["error"]


def test_the_api_describes_itself(api: InProcessApi) -> None:
    document = api.call("GET", "/openapi.json").body
    assert document["openapi"].startswith("3.")
    assert set(document["paths"]["/pools"]) == {"get", "post"}
    assert set(document["paths"]) >= {"/runs", "/runs/{run}", "/runs/{run}/why", "/runs/{run}/logs", "/dead-letters"}
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"], operation


# ---- Changed ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def sea(api: InProcessApi) -> str:
    """A Fargate pool whose starts have failed."""
    wanted = {"name": "sea", "kind": "fargate", "csr": CSR, "cpu": 512, "memory": 1024}
    pool_id: str = api.call("POST", "/pools", wanted).body["pool"]["id"]
    starts = api.store.starts(pool_id)
    assert starts
    failure = StartFailure(kind=TroubleKind.PERMANENT, reason=Reason.IMAGE_PULL, note="no such image")
    api.store.commit(Replace(starts.troubled(failure, api.clock(), b"ab")))
    return pool_id


def test_what_is_not_named_stays_and_settings_are_changed_alone(api: InProcessApi, sea: str) -> None:
    before = api.call("GET", "/pools/sea").body
    answer = api.call("PATCH", "/pools/sea", {"settings": {"max_workers": 3, "run_timeout": "2h"}})
    assert answer.status == 200, answer.body
    kept = {name: value for name, value in before.items() if name != "settings"}
    assert {name: value for name, value in answer.body.items() if name != "settings"} == kept
    assert answer.body["settings"] == before["settings"] | {"max_workers": 3, "run_timeout": "2h"}
    assert len(api.tasks.defined) == 1
    # Whatever was wrong with its starts is still.
    assert answer.body["trouble"]["note"] == "no such image"


def test_another_definition_is_made_and_started_at_once(api: InProcessApi, sea: str) -> None:
    answer = api.call("PATCH", "/pools/sea", {"image": "team/worker:2", "architecture": "arm64"})
    assert answer.status == 200, answer.body
    assert len(api.tasks.defined) == 2
    defined = api.tasks.defined[answer.body["task_definition"]]
    assert (defined.image, defined.architecture, defined.cpu, defined.memory) == ("team/worker:2", "arm64", 512, 1024)
    assert defined.token_parameter == f"/quaymaster/quaymaster/pools/{sea}/token"
    assert answer.body["trouble"] is None
    assert api.queue.take() != []
    # Said again, it changes nothing.
    again = api.call("PATCH", "/pools/sea", {"image": "team/worker:2", "architecture": "arm64"})
    assert again.body == answer.body
    assert len(api.tasks.defined) == 2
    assert api.queue.take() == []
    back = api.call("PATCH", "/pools/sea", {"image": None, "cpu": None, "memory": None})
    assert (back.body["image"], back.body["cpu"], back.body["architecture"]) == (None, None, "arm64")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cpu": 4096}, "memory"),
        ({"memory": 512, "cpu": 2048}, "memory"),
        ({"settings": {"warm": 11}}, "settings.warm"),
        ({"settings": {"log_timeout": "3h"}}, "settings.log_timeout"),
        ({"settings": {"images": "a b"}}, "settings.images"),
        ({"task_role": "arn:aws:iam::111122223333:role/admin"}, "task_role"),
        ({"name": "other"}, "name"),
        ({"image": "gone:1"}, "image"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(
    api: InProcessApi, sea: str, change: dict[str, Any], field: str
) -> None:
    api.tasks.image_errors["gone:1"] = Refused("image", "gone:1", "an image that is there")
    before = api.store.records()
    answer = api.call("PATCH", "/pools/sea", change)
    assert answer.status in (400, 422), answer.body
    assert answer.body["field"].endswith(field)
    assert api.store.records() == before
    assert len(api.tasks.defined) == 1


def test_a_private_pool_is_changed_in_its_settings_only(api: InProcessApi) -> None:
    api.call("POST", "/pools", {"name": "red", "kind": "private", "csr": CSR})
    changed = api.call("PATCH", "/pools/red", {"settings": {"lease": "5m"}})
    assert (changed.status, changed.body["settings"]["lease"]) == (200, "5m")
    assert api.call("PATCH", "/pools/red", {"image": "a:1"}).status == 400
    assert api.call("PATCH", "/pools/none", {"settings": {"lease": "5m"}}).status == 404


def test_of_two_who_change_a_pool_both_are_heard(api: InProcessApi, sea: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped, met = api.store.commit, False

    def meanwhile(*writes: Write) -> None:
        nonlocal met
        if not met:
            met = True
            pool = api.store.pool(sea)
            assert pool
            settings = replace(pool.settings, max_workers=7)
            shipped(Replace(replace(pool, settings=settings, version=pool.version + 1)))
        shipped(*writes)

    monkeypatch.setattr(api.store, "commit", meanwhile)
    answer = api.call("PATCH", "/pools/sea", {"settings": {"losses": 5}})
    assert answer.status == 200
    assert (answer.body["settings"]["max_workers"], answer.body["settings"]["losses"]) == (7, 5)
