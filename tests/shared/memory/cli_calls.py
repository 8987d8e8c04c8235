"""The `quaymaster` command in this process: its requests go to the API in memory, its uploads to a bucket in memory."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
from quaymaster_cli.deployment.client import ApiClient
from quaymaster_cli.deployment.connecting import Connection
from quaymaster_cli.deployment.target import Target, Where
from quaymaster_cli.main import run

from tests.shared.memory.api_calls import InProcessApi


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, read as JSON."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """Its output, read as tab-separated columns."""
        return [line.split("\t") for line in self.out.splitlines()]


@dataclass
class Parameters:
    """SSM as far as a pool's creation needs it. `refuse` names a parameter whose writing is denied."""

    values: dict[str, str] = field(default_factory=dict[str, str])
    refuse: str | None = None

    def client(self, service: str, **_options: object) -> "Parameters":
        """The session's client; there is only one."""
        assert service == "ssm"
        return self

    def put_parameter(self, *, Name: str, Value: str, Type: str, Overwrite: bool) -> None:
        """Write a new parameter."""
        from botocore.exceptions import ClientError

        assert (Type, Overwrite) == ("SecureString", False)
        if self.refuse and Name.endswith(self.refuse):
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "you may not"}}, "PutParameter")
        self.values[Name] = Value

    def delete_parameter(self, *, Name: str) -> None:
        """Take a parameter away."""
        del self.values[Name]


@dataclass
class Cli:
    """Runs commands against an API. `before` is called ahead of every request to it, so that the world can move."""

    api: InProcessApi = field(default_factory=InProcessApi)
    parameters: Parameters = field(default_factory=Parameters)
    before: Callable[[httpx.Request], None] = lambda request: None
    requests: list[str] = field(default_factory=list[str])
    puts: list[httpx.Request] = field(default_factory=list[httpx.Request])

    def __call__(self, *words: str) -> Ended:
        """Run one command line, as from a program: nothing is a terminal."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(words, self._connect)
        return Ended(code, out.getvalue(), err.getvalue())

    def client(self) -> ApiClient:
        """A client of the API, beside any command."""
        http = httpx.Client(base_url="http://api.test", transport=httpx.MockTransport(self._answer))
        return ApiClient(http, httpx.Client(transport=httpx.MockTransport(self._bucket)))

    def _connect(self, _where: Where) -> Connection:
        session = cast(Any, self.parameters)
        return Connection(api=self.client(), target=Target(api_url="http://api.test", region="eu", session=session))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.before(request)
        self.requests.append(f"{request.method} {request.url.path}")
        body = request.read() or None
        found = self.api.resolve(request.method, request.url.raw_path.decode(), body)
        return httpx.Response(found.status, json=found.body, headers={"content-type": "application/json"})

    def _bucket(self, request: httpx.Request) -> httpx.Response:
        key = request.url.path.lstrip("/")
        if request.url.params["method"] != request.method:
            return httpx.Response(403)
        if request.method == "PUT":
            # The store wants to know the length beforehand.
            assert int(request.headers["content-length"]) == len(request.read())
            assert "transfer-encoding" not in request.headers
            self.puts.append(request)
            self.api.blobs.write(key, request.read())
            return httpx.Response(200)
        found = self.api.blobs.objects.get(key)
        return httpx.Response(200, stream=httpx.ByteStream(found.body)) if found else httpx.Response(404)
