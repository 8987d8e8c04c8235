"""What every bucket promises: in memory, in moto, and in the local cloud's S3."""

import gzip
import io
import json
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ReadTimeoutError
from quaymaster.adapters.memory.blobs import MemoryBlobs
from quaymaster.adapters.s3.blobs import MAX_CHUNK_BYTES, S3Blobs
from quaymaster.adapters.s3.presign import BucketAddress, Presigner
from quaymaster.domain import objects
from quaymaster.domain.messages import Grants, LogDigest, LogEnd, Outcome
from quaymaster.domain.pool import PoolSettings
from quaymaster.errors import Unavailable
from quaymaster.ports import Blobs

from tests.contract.aws import REGION, dead_client, moto_client, refusing_client
from tests.contract.conftest import BareCloud
from tests.shared.memory.records import NOW, POOL, a_run

RUN = a_run().id
END = LogEnd(run=RUN, attempt=1, digest=LogDigest(lines=2, bytes=9), outcome=Outcome(end="FINISHED", exit_code=0))
LIFE = timedelta(minutes=30)
NOBODY = Credentials("test", "test")


@dataclass(frozen=True)
class Bucket:
    """A bucket and a way around the port to write into it."""

    blobs: Blobs
    write: Callable[[str, bytes], object]

    def chunk(self, sequence: int, attempt: int = 1, body: bytes = b"chunk") -> str:
        key = objects.chunk_prefix(POOL, RUN, attempt) + objects.chunk_name(sequence)
        self.write(key, body)
        return key


def in_memory(_request: pytest.FixtureRequest) -> Iterator[Bucket]:
    blobs = MemoryBlobs(lambda: NOW)
    yield Bucket(blobs, blobs.write)


def in_s3(client: Any, address: BucketAddress) -> Bucket:
    client.create_bucket(Bucket=address.bucket)
    blobs = S3Blobs(address.bucket, lambda: client, Presigner(address, lambda: NOBODY))
    return Bucket(blobs, lambda key, body: client.put_object(Bucket=address.bucket, Key=key, Body=body))


def in_moto(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    request.getfixturevalue("moto")
    yield in_s3(moto_client("s3"), BucketAddress(bucket="contract", region=REGION))


def in_local_cloud(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    cloud: BareCloud = request.getfixturevalue("bare_cloud")
    address = BucketAddress(bucket=f"contract-{uuid4().hex}", region=REGION, endpoint_url=cloud.endpoint_url)
    yield in_s3(cloud.client("s3"), address)


@pytest.fixture(
    params=[
        pytest.param(in_memory, id="memory"),
        pytest.param(in_moto, id="moto"),
        pytest.param(in_local_cloud, id="local", marks=pytest.mark.local),
    ]
)
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    yield from request.param(request)


@pytest.fixture
def local(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """The one that enforces what is presigned."""
    yield from in_local_cloud(request)


def test_chunks_come_in_the_order_in_which_they_were_cut(bucket: Bucket) -> None:
    keys = [bucket.chunk(sequence) for sequence in (10, 2, 1)]
    found = bucket.blobs.chunks(POOL, RUN, 1)
    assert [chunk.key for chunk in found] == sorted(keys)
    assert {chunk.size for chunk in found} == {len(b"chunk")}
    assert all(chunk.at.tzinfo for chunk in found)


def test_chunks_are_those_of_one_attempt_only(bucket: Bucket) -> None:
    bucket.chunk(1, attempt=1)
    tenth = bucket.chunk(1, attempt=10)
    assert [chunk.key for chunk in bucket.blobs.chunks(POOL, RUN, 10)] == [tenth]


def test_chunks_behind_a_key_leave_out_that_key(bucket: Bucket) -> None:
    first, second, third = (bucket.chunk(sequence) for sequence in (1, 2, 3))
    assert [chunk.key for chunk in bucket.blobs.chunks(POOL, RUN, 1, first)] == [second, third]
    assert bucket.blobs.chunks(POOL, RUN, 1, third) == []


def test_the_newest_chunk_is_the_last_one_behind_the_key_last_seen(bucket: Bucket) -> None:
    first, last = bucket.chunk(1), bucket.chunk(2, body=b"longer chunk")
    newest = bucket.blobs.newest_chunk(POOL, RUN, 1, first)
    assert newest
    assert (newest.key, newest.size) == (last, len(b"longer chunk"))
    assert bucket.blobs.newest_chunk(POOL, RUN, 1, last) is None
    assert bucket.blobs.newest_chunk(POOL, RUN, 2, None) is None


def test_a_key_of_the_attempt_before_hides_nothing_of_this_one(bucket: Bucket) -> None:
    before = bucket.chunk(99, attempt=1)
    now = bucket.chunk(1, attempt=2)
    newest = bucket.blobs.newest_chunk(POOL, RUN, 2, before)
    assert newest
    assert newest.key == now


def test_listing_pages_through_more_chunks_than_one_answer_holds(moto: None) -> None:
    client = moto_client("s3")
    bucket = in_s3(client, BucketAddress(bucket="many", region=REGION))
    keys = [bucket.chunk(sequence) for sequence in range(1, 1006)]
    newest = bucket.blobs.newest_chunk(POOL, RUN, 1, None)
    assert newest
    assert newest.key == keys[-1]
    assert len(bucket.blobs.chunks(POOL, RUN, 1)) == len(keys)


def test_an_end_marker_is_read_as_it_was_written(bucket: Bucket) -> None:
    assert bucket.blobs.log_end(POOL, RUN, 1) is None
    bucket.write(objects.log_end_key(POOL, RUN, 1), END.model_dump_json(by_alias=True).encode())
    assert bucket.blobs.log_end(POOL, RUN, 1) == END


@pytest.mark.parametrize(
    "body",
    [b"", b"not JSON", b"[]", b'{"run": 1}', END.model_copy(update={"attempt": 2}).model_dump_json().encode()],
)
def test_an_end_marker_that_proves_nothing_counts_as_absent(bucket: Bucket, body: bytes) -> None:
    bucket.write(objects.log_end_key(POOL, RUN, 1), body)
    assert bucket.blobs.log_end(POOL, RUN, 1) is None


def test_an_object_is_read_as_a_stream_and_a_missing_one_as_nothing(bucket: Bucket) -> None:
    text = b"line\n" * 100_000
    bucket.write("inputs/P/w/workspace.tar.gz", gzip.compress(text))
    assert bucket.blobs.read("inputs/P/w/nothing") is None
    found = bucket.blobs.read("inputs/P/w/workspace.tar.gz")
    assert found
    with found, gzip.open(found) as unpacked:
        assert unpacked.read() == text


def test_an_object_is_there_by_its_whole_key(bucket: Bucket) -> None:
    key = f"inputs/{POOL}/abc/workspace.tar.gz"
    bucket.write(f"{key}.old", b"another's")
    assert not bucket.blobs.is_there(key)
    bucket.write(key, b"packed")
    assert bucket.blobs.is_there(key)
    assert not bucket.blobs.is_there(key[:-1])


def test_a_log_is_written_once_and_its_marker_after_it(bucket: Bucket) -> None:
    assert bucket.blobs.write_log(POOL, RUN, 1, io.BytesIO(b"first"), END) is True
    assert bucket.blobs.log_end(POOL, RUN, 1) == END
    assert bucket.blobs.write_log(POOL, RUN, 1, io.BytesIO(b"second"), END) is False
    found = bucket.blobs.read(objects.log_key(POOL, RUN, 1))
    assert found
    assert found.read() == b"first"


def test_a_marker_beside_a_log_of_another_hand_claims_nothing_about_its_bytes(bucket: Bucket) -> None:
    bucket.write(objects.log_key(POOL, RUN, 1), b"the agent's")
    assert bucket.blobs.write_log(POOL, RUN, 1, io.BytesIO(b"ours"), END) is True
    end = bucket.blobs.log_end(POOL, RUN, 1)
    assert end
    assert end.outcome == END.outcome
    assert end.digest == LogDigest(complete=False)
    found = bucket.blobs.read(objects.log_key(POOL, RUN, 1))
    assert found
    assert found.read() == b"the agent's"


def away(kind: str) -> Blobs:
    if kind == "memory":
        memory = MemoryBlobs(lambda: NOW)
        memory.down = "the bucket is away"
        return memory
    client = dead_client("s3") if kind == "dead" else refusing_client("s3", "SlowDown", "slow", 503)
    if kind == "denied":
        client = refusing_client("s3", "AccessDenied", "not authorized to perform: s3:ListBucket", 403)
    presigner = Presigner(BucketAddress(bucket="b", region=REGION), lambda: NOBODY)
    return S3Blobs("b", lambda: client, presigner)


CALLS: Mapping[str, Callable[[Blobs], object]] = {
    "newest_chunk": lambda blobs: blobs.newest_chunk(POOL, RUN, 1, None),
    "chunks": lambda blobs: blobs.chunks(POOL, RUN, 1),
    "log_end": lambda blobs: blobs.log_end(POOL, RUN, 1),
    "read": lambda blobs: blobs.read("logs/a"),
    "is_there": lambda blobs: blobs.is_there("inputs/a"),
    "write_log": lambda blobs: blobs.write_log(POOL, RUN, 1, io.BytesIO(b"log"), END),
}


@pytest.mark.parametrize("kind", ["memory", "dead", "throttled", "denied"])
@pytest.mark.parametrize("call", CALLS)
def test_a_bucket_that_does_not_answer_is_unavailable_and_never_empty(kind: str, call: str) -> None:
    with pytest.raises(Unavailable, match="s3"):
        CALLS[call](away(kind))


def in_s3_that_denies(listed: list[str]) -> Blobs:
    """A bucket as S3 is to a role whose right to list holds below prefixes only: each GET answers 403."""
    client = refusing_client("s3", "AccessDenied", "Access Denied", 403)
    asked: list[tuple[str, str]] = []

    def list_objects_v2(Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:
        asked.append((Bucket, Prefix))
        found = [key for key in sorted(listed) if key.startswith(Prefix)][:MaxKeys]
        return {"Contents": [{"Key": key} for key in found]} if found else {}

    client.list_objects_v2 = list_objects_v2
    return S3Blobs("b", lambda: client, Presigner(BucketAddress(bucket="b", region=REGION), lambda: NOBODY))


def test_a_key_that_is_denied_and_in_no_list_is_not_there() -> None:
    assert in_s3_that_denies([]).read("logs/a") is None
    assert in_s3_that_denies(["logs/ab"]).read("logs/a") is None
    assert in_s3_that_denies([]).log_end(POOL, RUN, 1) is None


def test_a_key_that_is_denied_and_in_the_list_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="AccessDenied"):
        in_s3_that_denies(["logs/a", "logs/ab"]).read("logs/a")


def test_a_connection_that_breaks_while_reading_is_unavailable(moto: None, monkeypatch: pytest.MonkeyPatch) -> None:
    client = moto_client("s3")
    bucket = in_s3(client, BucketAddress(bucket="broken", region=REGION))
    bucket.write("logs/a", b"a" * 100_000)

    def break_off(_body: object, amt: int | None = None) -> bytes:
        raise ReadTimeoutError(endpoint_url="http://bucket")

    monkeypatch.setattr("botocore.response.StreamingBody.read", break_off)
    found = bucket.blobs.read("logs/a")
    assert found
    with pytest.raises(Unavailable, match="while reading"):
        found.read()


@pytest.mark.parametrize("kind", ["memory", "dead"])
def test_presigning_calls_nobody(kind: str) -> None:
    blobs = away(kind)
    grants = blobs.grants(POOL, RUN, 1, PoolSettings())
    assert grants.chunks.key_prefix == objects.chunk_prefix(POOL, RUN, 1)
    assert grants.chunks.max_bytes == MAX_CHUNK_BYTES
    assert grants.expires_in_seconds == PoolSettings().grant_life.total_seconds()
    assert blobs.upload_url("inputs/a", LIFE) != blobs.download_url("inputs/a", LIFE)
    assert blobs.workspace("inputs/a", "0" * 64, LIFE).sha256 == "0" * 64


def post(grants: Grants, name: str, body: bytes, prefix: str | None = None) -> int:
    form = {**grants.chunks.fields, "key": (grants.chunks.key_prefix if prefix is None else prefix) + name}
    return httpx.post(grants.chunks.url, data=form, files={"file": (name, body)}).status_code


@pytest.mark.local
def test_a_grant_writes_chunks_of_its_attempt_and_nothing_else(local: Bucket) -> None:
    grants = local.blobs.grants(POOL, RUN, 1, PoolSettings())
    name = objects.chunk_name(1)
    assert post(grants, name, b"chunk") == 204
    assert post(grants, name, b"chunk", objects.chunk_prefix(POOL, RUN, 2)) == 403
    assert post(grants, name, b"chunk", objects.log_prefix(POOL, RUN, 1)) == 403
    assert post(grants, "empty", b"") == 400
    assert post(grants, "huge", b"0" * (MAX_CHUNK_BYTES + 1)) == 400
    assert [chunk.key for chunk in local.blobs.chunks(POOL, RUN, 1)] == [grants.chunks.key_prefix + name]


@pytest.mark.local
def test_a_grant_writes_the_log_and_its_marker_once(local: Bucket) -> None:
    grants = local.blobs.grants(POOL, RUN, 1, PoolSettings())
    for grant, body in ((grants.log, b"log"), (grants.log_end, END.model_dump_json().encode())):
        assert httpx.put(grant.url, content=body).status_code == 403
        assert httpx.put(grant.url, headers=grant.headers, content=body).status_code == 200
        assert httpx.put(grant.url, headers=grant.headers, content=b"again").status_code == 412
    assert local.blobs.log_end(POOL, RUN, 1) == END


@pytest.mark.local
def test_a_workspace_is_left_once_by_a_grant_that_only_those_have_who_leave_one(local: Bucket) -> None:
    assert local.blobs.grants(POOL, RUN, 1, PoolSettings()).workspace is None
    grant = local.blobs.grants(POOL, RUN, 1, PoolSettings(), pack=True).workspace
    assert grant
    assert httpx.put(grant.url, content=b"packed", headers=grant.headers).status_code == 200
    assert httpx.put(grant.url, content=b"other", headers=grant.headers).status_code == 412
    key = objects.left_workspace_key(POOL, RUN, 1)
    assert httpx.get(local.blobs.workspace(key, "0" * 64, LIFE).url).content == b"packed"


@pytest.mark.local
def test_a_grant_writes_the_outputs_once(local: Bucket) -> None:
    grant = local.blobs.grants(POOL, RUN, 1, PoolSettings()).outputs
    assert grant
    for body, status in ((b"first", 200), (b"second", 412)):
        assert httpx.put(grant.url, headers=grant.headers, content=body).status_code == status
    found = local.blobs.read(objects.outputs_key(POOL, RUN, 1))
    assert found
    assert found.read() == b"first"


@pytest.mark.local
def test_urls_for_users_allow_one_method_on_one_object(local: Bucket) -> None:
    upload = local.blobs.upload_url("inputs/P/w ~+/workspace.tar.gz", LIFE)
    download = local.blobs.download_url("inputs/P/w ~+/workspace.tar.gz", LIFE)
    assert httpx.get(upload).status_code == 403
    assert httpx.put(upload, content=b"packed").status_code == 200
    assert httpx.put(download, content=b"other").status_code == 403
    assert httpx.get(download).content == b"packed"
    assert httpx.get(download.replace("workspace.tar.gz", "other.tar.gz")).status_code == 403


def s3_blobs(address: BucketAddress, left: timedelta | None = None, token: str | None = None) -> S3Blobs:
    credentials = Credentials("key", "secret", token)
    client = dead_client("s3")
    return S3Blobs(address.bucket, lambda: client, Presigner(address, lambda: credentials), lambda: left)


@pytest.mark.parametrize(
    ("left", "seconds"),
    [(None, 1800), (timedelta(hours=1), 1800), (timedelta(minutes=2), 120), (timedelta(minutes=-1), 1)],
)
def test_a_grant_lives_no_longer_than_what_signed_it(left: timedelta | None, seconds: int) -> None:
    grants = s3_blobs(BucketAddress(bucket="b", region=REGION), left).grants(POOL, RUN, 1, PoolSettings())
    assert grants.expires_in_seconds == seconds
    assert parse_qs(urlsplit(grants.log.url).query)["X-Amz-Expires"] == [str(seconds)]
    policy = json.loads(b64decode(grants.chunks.fields["policy"]))
    ends = datetime.fromisoformat(policy["expiration"]) - datetime.now(UTC)
    assert timedelta(seconds=seconds - 5) < ends <= timedelta(seconds=seconds)


def test_temporary_credentials_sign_with_their_token() -> None:
    blobs = s3_blobs(BucketAddress(bucket="b", region=REGION), token="session-token")
    grants = blobs.grants(POOL, RUN, 1, PoolSettings())
    assert grants.chunks.fields["x-amz-security-token"] == "session-token"
    assert parse_qs(urlsplit(grants.log.url).query)["X-Amz-Security-Token"] == ["session-token"]


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (BucketAddress(bucket="b", region="eu-west-1"), "https://b.s3.eu-west-1.amazonaws.com"),
        (BucketAddress(bucket="b", region="cn-north-1"), "https://b.s3.cn-north-1.amazonaws.com.cn"),
        (BucketAddress(bucket="b", region=REGION, endpoint_url="http://127.0.0.1:1/"), "http://127.0.0.1:1/b"),
    ],
)
def test_urls_name_the_bucket_by_host_on_aws_and_by_path_elsewhere(address: BucketAddress, url: str) -> None:
    blobs = s3_blobs(address)
    assert blobs.grants(POOL, RUN, 1, PoolSettings()).chunks.url == url
    assert blobs.download_url("logs/a", LIFE).startswith(f"{url}/logs/a?")


def test_what_is_presigned_here_is_what_the_client_itself_would_presign() -> None:
    """Both sign the same request; only the order of the query differs, and now and then the second."""
    make: Any = boto3
    config = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
    client = make.client(
        "s3", region_name="eu-west-1", aws_access_key_id="key", aws_secret_access_key="secret", config=config
    )
    presigner = Presigner(BucketAddress(bucket="bucket", region="eu-west-1"), lambda: Credentials("key", "secret"))
    asked = {"Bucket": "bucket", "Key": "logs/a b/ä~", "IfNoneMatch": "*"}

    def both() -> tuple[str, str]:
        theirs = client.generate_presigned_url("put_object", Params=asked, ExpiresIn=60)
        return theirs, presigner.url("PUT", "logs/a b/ä~", timedelta(minutes=1), {"If-None-Match": "*"})

    tries = [[(urlsplit(url).path, parse_qs(urlsplit(url).query)) for url in both()] for _ in range(3)]
    assert any(theirs == ours for theirs, ours in tries), tries[0]


def test_settings_of_the_pool_decide_how_long_a_grant_lives(bucket: Bucket) -> None:
    settings = replace(PoolSettings(), grant_life=timedelta(seconds=20))
    assert bucket.blobs.grants(POOL, RUN, 1, settings).expires_in_seconds == 20
