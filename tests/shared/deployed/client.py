"""A deployment as the stories use it: its API, its request queue, its logs; nothing behind the API's back."""

import base64
import gzip
import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from quaymaster.domain.ids import run_id
from quaymaster_local.cloud import LocalCloud

FINAL = {"FINISHED", "FAILED", "STOPPED", "CANCELED", "SKIPPED"}
QUICK = {
    "accept_timeout": "3s",
    "lease": "3s",
    "stop_grace": "1s",
    "lost_slack": "1s",
    "backstop_slack": "3s",
    "warning": "1s",
}
"""Short spans, so that a story about waiting does not wait."""


@dataclass(frozen=True)
class Credential:
    """What a pool's agents are started with."""

    pool_id: str
    token: str
    key: str


class Deployment:
    """The deployed system, through its front doors."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self._http = httpx.Client(timeout=60)
        self._pools = 0

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """One signed call of the API: status and answer."""
        url = self.cloud.api_url.rstrip("/") + path
        data = json.dumps(body) if body is not None else ""
        request = AWSRequest(method=method, url=url, data=data, headers={"content-type": "application/json"})
        SigV4Auth(Credentials("test", "test"), "lambda", "us-east-1").add_auth(request)
        answer = self._http.request(method, url, content=data, headers=dict(request.headers))
        return answer.status_code, answer.json()

    def create_pool(
        self,
        kind: str = "private",
        task_role: str | None = None,
        image: str | None = None,
        executor: str | None = None,
        **settings: str | int,
    ) -> Credential:
        """A new pool with quick settings."""
        fields = {"task_role": task_role, "image": image, "executor": executor}
        self._pools += 1
        key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pool")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        body = {
            "name": f"{kind}-{self._pools}-{time.time_ns()}",
            "kind": kind,
            "csr": csr.public_bytes(serialization.Encoding.PEM).decode(),
            "settings": {**QUICK, **settings},
            **{name: value for name, value in fields.items() if value},
        }
        status, created = self.call("POST", "/pools", body)
        assert status == 201, created
        if kind == "fargate":
            token = base64.b64decode(created["token"]).decode()
            for parameter, value in ((created["token_parameter"], token), (created["key_parameter"], pem)):
                self.cloud.client("ssm").put_parameter(Name=parameter, Value=value, Type="SecureString")
        return Credential(created["pool"]["id"], created["token"], pem)

    def send(self, pool_id: str, request_id: str, command: Sequence[str], **fields: Any) -> str:
        """Send a request through SQS; the run that it leads to."""
        body = {"schema": 1, "id": request_id, "pool": pool_id, "command": list(command), **fields}
        self.send_raw(json.dumps(body))
        return run_id(pool_id, request_id)

    def send_raw(self, *bodies: str) -> None:
        """Send whatever through SQS."""
        queue = self.cloud.outputs["RequestQueueUrl"]
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies[start : start + 10])]
            self.cloud.client("sqs").send_message_batch(QueueUrl=queue, Entries=entries)

    def run(self, run: str) -> dict[str, Any] | None:
        """The run as the API shows it."""
        status, found = self.call("GET", f"/runs/{run}")
        return found if status == 200 else None

    def wait(self, run: str, *states: str, seconds: float = 120, reaping: bool = False) -> dict[str, Any]:
        """Wait until the run stands in one of the states (final ones unless told)."""
        wanted = set(states) or FINAL
        end = time.monotonic() + seconds
        found = self.run(run)
        while not found or found["state"] not in wanted:
            assert time.monotonic() < end, f"run {run} is not {wanted} but {found}"
            if found and found["state"] in FINAL:
                raise AssertionError(f"run {run} ended: {found}")
            if reaping:
                self.cloud.reap()
            time.sleep(0.3)
            found = self.run(run)
        return found

    def read(self, path: str) -> Any:
        """The answer to a GET that must succeed."""
        status, found = self.call("GET", path)
        assert status == 200, (path, status, found)
        return found

    def workers(self, pool_id: str) -> list[dict[str, Any]]:
        """The pool's workers, those that are gone included."""
        pages = [self.read(f"/pools/{pool_id}/workers?gone={gone}&limit=200") for gone in ("false", "true")]
        return [worker for page in pages for worker in page["workers"]]

    def wait_workers(self, pool_id: str, count: int, state: str = "IDLE", seconds: float = 120) -> list[dict[str, Any]]:
        """Wait until so many workers stand there."""
        end = time.monotonic() + seconds
        while len(found := [w for w in self.workers(pool_id) if w["state"] == state]) != count:
            assert time.monotonic() < end, f"not {count} {state}: {self.workers(pool_id)}"
            time.sleep(0.2)
        return found

    def log(self, found: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The lines of a run's final log."""
        s3 = self.cloud.client("s3")
        body = s3.get_object(Bucket=found["log"]["bucket"], Key=found["log"]["key"])["Body"].read()
        return [json.loads(line) for line in gzip.decompress(body).splitlines()]

    def end(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The end marker of a run's log, `log.json`."""
        key = found["log"]["key"].replace("log.ndjson.gz", "log.json")
        body = self.cloud.client("s3").get_object(Bucket=found["log"]["bucket"], Key=key)["Body"].read()
        return json.loads(body)

    def output(self, found: Mapping[str, Any]) -> list[str]:
        """What the run's command wrote, line by line."""
        return [line["msg"] for line in self.log(found) if line["stream"] == "output"]

    def chunks(self, pool_id: str, run: str) -> list[str]:
        """The keys of the run's log chunks in the bucket."""
        bucket = self.cloud.outputs["BucketName"]
        found = self.cloud.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"chunks/{pool_id}/{run}/")
        return [one["Key"] for one in found.get("Contents", [])]

    def shipped(self, pool_id: str, run: str) -> list[str]:
        """What the run's command has written so far, as its chunks tell."""
        s3, bucket = self.cloud.client("s3"), self.cloud.outputs["BucketName"]
        bodies = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in self.chunks(pool_id, run)]
        lines = [json.loads(line) for body in bodies for line in gzip.decompress(body).splitlines()]
        return [line["msg"] for line in lines if line["stream"] == "output"]

    def expire_chunks(self, pool_id: str, run: str) -> None:
        """What the bucket's lifecycle does to chunks after two days."""
        bucket = self.cloud.outputs["BucketName"]
        for key in self.chunks(pool_id, run):
            self.cloud.client("s3").delete_object(Bucket=bucket, Key=key)

    def wait_assembled(self, run: str) -> dict[str, Any]:
        """Sweep until the final log of an ended run is written."""

        def is_written() -> bool:
            self.cloud.reap()
            return (self.run(run) or {}).get("digest") is not None

        wait_until(is_written)
        return self.read(f"/runs/{run}")

    def refusals(self, *words: str, seconds: float = 60) -> dict[str, str]:
        """Wait until each word stands in the reason of a dead letter; the reasons."""
        found: dict[str, str] = {}

        def all_there() -> bool:
            # A reader hides letters from the next one for a moment.
            for letter in self.read("/dead-letters")["dead_letters"]:
                found.update({word: letter["reason"] for word in words if word in letter["reason"]})
            return found.keys() >= set(words)

        wait_until(all_there, seconds)
        return found

    @contextmanager
    def uploads_denied(self, pool_id: str) -> Generator[None]:
        """As long as this lasts, the bucket takes nothing from the pool's agents."""
        bucket = self.cloud.outputs["BucketName"]
        resources = [f"arn:aws:s3:::{bucket}/{kind}/{pool_id}/*" for kind in ("chunks", "logs")]
        statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": resources}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.cloud.client("s3").put_bucket_policy(Bucket=bucket, Policy=policy)
        try:
            yield
        finally:
            self.cloud.client("s3").delete_bucket_policy(Bucket=bucket)

    @contextmanager
    def deaf(self) -> Generator[None]:
        """As long as this lasts, the control plane hears nothing of what agents say."""
        name = self.cloud.function_name("ReceiveWorkerEvents")
        self.cloud.client("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        try:
            yield
        finally:
            self.cloud.client("lambda").delete_function_concurrency(FunctionName=name)


def seconds_of(found: Mapping[str, Any]) -> float:
    """How long the run's phase took, by the control plane's clock."""
    return (datetime.fromisoformat(found["ended_at"]) - datetime.fromisoformat(found["begun_at"])).total_seconds()


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition, boundedly."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"it did not come true within {seconds} s"
        time.sleep(0.2)
