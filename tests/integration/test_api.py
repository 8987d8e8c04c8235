"""The deployed API: signed requests only, its role suffices for every route, and logs are read by presigned GET."""

import gzip
import json
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from quaymaster.domain import ids
from quaymaster.domain.api import CreatePool, PrepareUpload
from quaymaster.domain.objects import chunk_name, chunk_prefix
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.requests import RunRequest
from quaymaster_cli.deployment.client import ApiClient
from quaymaster_cli.deployment.signing import Signature
from quaymaster_cli.errors import ApiRefused, Unknown
from quaymaster_local.cloud import LocalCloud
from quaymaster_sealing.keys import generate_key, make_csr


@pytest.fixture(scope="module")
def csr() -> str:
    return make_csr(generate_key())


@pytest.fixture(scope="module")
def http(cloud: LocalCloud) -> Iterator[httpx.Client]:
    """Signed as root."""
    with httpx.Client(base_url=cloud.api_url, auth=Signature(cloud.session, "us-east-1"), timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def api(http: httpx.Client) -> Iterator[ApiClient]:
    with httpx.Client(timeout=60) as plain:
        yield ApiClient(http, plain)


@pytest.fixture
def pool(api: ApiClient, csr: str) -> str:
    """A private pool without workers; its id."""
    name = f"api-{time.time_ns()}"
    return api.create_pool(CreatePool(name=name, kind=PoolKind.PRIVATE, csr=csr)).pool.id


def test_requests_that_are_not_signed_are_turned_away(cloud: LocalCloud) -> None:
    assert httpx.get(f"{cloud.api_url.rstrip('/')}/pools", timeout=60).status_code == 403


def test_its_role_suffices_for_every_route(http: httpx.Client, pool: str) -> None:
    paths = ["about", "pools", f"pools/{pool}", f"pools/{pool}/workers", f"pools/{pool}/runs", "dead-letters"]
    answers = {path: http.get(path).status_code for path in [*paths, "openapi.json"]}
    assert answers == dict.fromkeys(answers, 200)


def test_the_description_names_every_route(http: httpx.Client) -> None:
    document = http.get("openapi.json").json()
    assert {"/pools", "/runs", "/runs/{run}/logs", "/dead-letters", "/inputs"} <= set(document["paths"])


def test_a_pool_of_that_name_is_a_conflict_and_a_bad_csr_names_its_field(
    api: ApiClient, http: httpx.Client, csr: str, pool: str
) -> None:
    name = api.pool(pool).name
    answer = http.post("pools", json={"name": name, "kind": "private", "csr": csr})
    assert (answer.status_code, pool in answer.json()["error"]) == (409, True)
    bad = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"
    answer = http.post("pools", json={"name": f"bad-{time.time_ns()}", "kind": "private", "csr": bad})
    assert (answer.status_code, answer.json()["field"]) == (400, "csr")


def test_a_fargate_pool_gets_its_own_task_definition(api: ApiClient, cloud: LocalCloud, csr: str) -> None:
    request = CreatePool(name=f"sea-{time.time_ns()}", kind=PoolKind.FARGATE, csr=csr, image="example/worker:9")
    made = api.create_pool(request)
    assert made.pool.task_definition
    definition = cloud.ecs().describe_task_definition(taskDefinition=made.pool.task_definition)["taskDefinition"]
    assert definition["family"] == f"quaymaster-pool-{made.pool.id}"
    assert definition["containerDefinitions"][0]["image"] == "example/worker:9"


def test_a_requested_run_is_in_the_table_soon_and_its_id_was_known_at_once(api: ApiClient, pool: str) -> None:
    request = RunRequest(id="mine", pool=pool, command=("true",), environment={"PASSWORD": "hunter2"})
    accepted = api.start_run(request)
    assert accepted.run == ids.run_id(pool, "mine")
    assert api.start_run(request).run == accepted.run
    end = time.monotonic() + 60
    while accepted.run not in {one.run for one in api.runs(pool, 50).runs}:
        assert time.monotonic() < end
        time.sleep(0.3)
    shown = api.run(accepted.run)
    assert (shown.state, shown.request_id, shown.environment) == ("READY", "mine", ["PASSWORD"])
    assert "hunter2" not in shown.model_dump_json()
    assert "no worker of pool" in api.why(accepted.run).why
    assert len(api.runs(pool, 50).runs) == 1


def test_a_request_that_makes_no_sense_is_refused_before_it_is_queued(api: ApiClient, pool: str) -> None:
    with pytest.raises(ApiRefused, match="log_timeout"):
        api.start_run(RunRequest.model_validate({"pool": pool, "command": ["true"], "log_timeout": "3h"}))
    with pytest.raises(Unknown, match="no pool 'nope'"):
        api.start_run(RunRequest(pool="nope", command=("true",)))


def test_a_workspace_is_put_by_presigned_put_at_its_own_key_only(api: ApiClient, cloud: LocalCloud, pool: str) -> None:
    place = api.prepare_upload(PrepareUpload(pool=pool))
    assert api.plain.put(place.url, content=b"packed").status_code == 200
    bucket = cloud.outputs["BucketName"]
    assert cloud.client("s3").get_object(Bucket=bucket, Key=place.key)["Body"].read() == b"packed"
    elsewhere = place.url.replace("workspace.tar.gz", "other.tar.gz")
    assert api.plain.put(elsewhere, content=b"packed").status_code == 403
    assert api.plain.get(place.url).status_code == 403


def test_chunks_are_read_by_presigned_get(api: ApiClient, cloud: LocalCloud, pool: str) -> None:
    run = _a_running_run(api, cloud, pool)
    key = chunk_prefix(pool, run, 1) + chunk_name(0)
    line = json.dumps({"msg": "hello", "stream": "output"}).encode() + b"\n"
    bucket = cloud.outputs["BucketName"]
    cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=gzip.compress(line))
    view = api.log(run, watch=True)
    assert ([one.key for one in view.chunks], view.ended) == ([key], False)
    assert gzip.decompress(api.plain.get(view.chunks[0].url).content) == line
    assert api.log(run, view.cursor).chunks == []
    assert api.plain.put(view.chunks[0].url, content=b"forged").status_code == 403


def _a_running_run(api: ApiClient, cloud: LocalCloud, pool: str) -> str:
    """A run that a worker holds, as far as the table knows: nobody is behind it."""
    accepted = api.start_run(RunRequest(id=f"log-{secrets.token_hex(4)}", pool=pool, command=("true",)))
    end = time.monotonic() + 60
    while accepted.run not in {one.run for one in api.runs(pool, 50).runs}:
        assert time.monotonic() < end
        time.sleep(0.3)
    worker = ids.worker_id("quaymaster", pool, ids.ulid(datetime.now(UTC), secrets.token_bytes(10)))
    session = ids.ulid(datetime.now(UTC), secrets.token_bytes(10))
    _say(cloud, pool, worker, "registered", {"schema": 1, "session": session})
    while (shown := api.run(accepted.run)).attempt == 0:
        assert time.monotonic() < end, shown
        time.sleep(0.3)
    assert shown.worker == worker
    return accepted.run


def _say(cloud: LocalCloud, pool: str, worker: str, event: str, body: dict[str, object]) -> None:
    cloud.client("iot-data").publish(topic=f"quaymaster/from/{pool}/{worker}/{event}", qos=1, payload=json.dumps(body))
