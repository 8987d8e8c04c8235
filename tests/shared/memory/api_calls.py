"""The API in this process: memory ports behind the real routes, called as a Function URL calls them."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_plus, urlencode, urlsplit

from aws_lambda_powertools.utilities.typing import LambdaContext
from quaymaster.adapters.memory.blobs import MemoryBlobs
from quaymaster.adapters.memory.certificates import MemoryCertificates
from quaymaster.adapters.memory.functions import MemoryFunctions
from quaymaster.adapters.memory.messenger import MemoryMessenger
from quaymaster.adapters.memory.queue import MemoryQueue
from quaymaster.adapters.memory.store import MemoryStore
from quaymaster.adapters.memory.tasks import MemoryTasks
from quaymaster.api.application import Api
from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.ports import Ports

CSR = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that tests move."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> datetime:
        """Move on, and say what time it is then."""
        self.now += timedelta(**span)
        return self.now


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: Any
    headers: Mapping[str, str]


class WebBlobs(MemoryBlobs):
    """Presigns URLs that an HTTP client takes."""

    def upload_url(self, key: str, life: timedelta) -> str:
        return f"http://bucket.test/{key}?method=PUT&life={life.total_seconds():.0f}"

    def download_url(self, key: str, life: timedelta) -> str:
        return f"http://bucket.test/{key}?method=GET&life={life.total_seconds():.0f}"


@dataclass
class InProcessApi:
    """The API over memory ports."""

    clock: Clock = field(default_factory=Clock)
    store: MemoryStore = field(default_factory=MemoryStore)
    messenger: MemoryMessenger = field(default_factory=MemoryMessenger)
    tasks: MemoryTasks = field(default_factory=MemoryTasks)
    certificates: MemoryCertificates = field(default_factory=MemoryCertificates)
    functions: MemoryFunctions = field(default_factory=MemoryFunctions)
    logged: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])

    def __post_init__(self) -> None:
        self.queue = MemoryQueue(self.clock)
        self.blobs = WebBlobs(self.clock)
        self._draws = 0
        self.ports = Ports(
            namespace="quaymaster",
            store=self.store,
            messenger=self.messenger,
            queue=self.queue,
            tasks=self.tasks,
            blobs=self.blobs,
            certificates=self.certificates,
            clock=self.clock,
            random=self._random,
            log=lambda event, fields: self.logged.append((event, fields)),
        )
        deployment = Deployment(namespace="quaymaster", ssm_prefix="/quaymaster/quaymaster", bucket="bucket")
        self._application = Api(ports=self.ports, functions=self.functions, deployment=deployment).application()

    def _random(self, count: int) -> bytes:
        self._draws += 1
        return hashlib.shake_256(str(self._draws).encode()).digest(count)

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Answer:
        """Send a request; a `str` body goes as it is, anything else as JSON."""
        text = body if isinstance(body, str) else json.dumps(body)
        return self.resolve(method, f"{path}?{urlencode(query)}", None if body is None else text.encode())

    def resolve(self, method: str, url: str, body: bytes | None) -> Answer:
        """Answer a request the way a Function URL hands it on."""
        parts = urlsplit(url)
        found = self._application.resolve(function_url_event(method, parts.path, parts.query, body), LambdaContext())
        headers = {name.lower(): value for name, value in found.get("headers", {}).items()}
        text = found["body"]
        is_json = headers.get("content-type", "").startswith("application/json")
        return Answer(found["statusCode"], json.loads(text) if is_json and text else text, headers)

    def pool(self, name: str = "red", **more: Any) -> dict[str, Any]:
        """Create a private pool; its view."""
        answer = self.call("POST", "/pools", {"name": name, "kind": "private", "csr": CSR, **more})
        assert answer.status == 201, answer.body
        return answer.body["pool"]


SIGNER = "arn:aws:sts::000000000000:assumed-role/deployer/ci"


def function_url_event(method: str, path: str, query: str, body: bytes | None) -> dict[str, Any]:
    """A Function URL's event, payload format 2.0."""
    pairs = [pair.split("=", 1) for pair in query.split("&") if pair]
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"content-type": "application/json", "host": "api.test"},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "api",
            "authorizer": {"iam": {"userArn": SIGNER}},
            "domainName": "api.test",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": 0,
        },
        "isBase64Encoded": body is not None,
    }
    if pairs:
        event["queryStringParameters"] = {name: unquote_plus(value) for name, value in pairs}
    if body is not None:
        event["body"] = base64.b64encode(body).decode()
    return event
