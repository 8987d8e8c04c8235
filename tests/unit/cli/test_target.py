"""Which deployment a command means, how its requests are signed, and what is said when there is none."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from quaymaster_cli.deployment.connecting import connect
from quaymaster_cli.deployment.target import Where, find_target
from quaymaster_cli.errors import Disconnected, Unreachable
from quaymaster_cli.main import run

from tests.shared.memory.cli_calls import Cli
from tests.shared.memory.run_records import add_run, begin

URL = "https://abc.lambda-url.eu-west-1.on.aws/"
KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "SECRET"}


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder and an environment that names nothing and nobody."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "QUAYMASTER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HTTP_PROXY", "")
    monkeypatch.chdir(tmp_path)


class Server(BaseHTTPRequestHandler):
    """Answers every request with `answer` and remembers it."""

    seen: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []
    answer: ClassVar[tuple[int, bytes]] = (200, b'{"pools": []}')

    def do_GET(self) -> None:
        """Answer a GET."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        Server.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status, content = Server.answer
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    Server.seen, Server.answer = [], (200, b'{"pools": []}')
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def a_local_cloud(name: str, port: int, folder: Path = Path(".local")) -> str:
    """What `local up` leaves; its API's URL."""
    url = f"http://127.0.0.1:{port}/_aws/lambda-url/{name}"
    document = {
        "api_url": url,
        "endpoint_url": f"http://127.0.0.1:{port}",
        "region": "us-east-1",
        "credentials": {"access_key_id": "test", "secret_access_key": "test"},
    }
    (folder / name).mkdir(parents=True)
    (folder / name / "deployment.json").write_text(json.dumps(document))
    return url


def closed_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_the_urls_own_region_is_used_when_none_is_given() -> None:
    target = find_target(Where(), {"QUAYMASTER_API_URL": URL})
    assert (target.api_url, target.region, target.endpoint_url) == (URL, "eu-west-1", None)
    assert find_target(Where(region="us-east-2"), {"QUAYMASTER_API_URL": URL}).region == "us-east-2"
    elsewhere = {"QUAYMASTER_API_URL": "https://api.example.com", "AWS_REGION": "eu-north-1"}
    assert find_target(Where(), elsewhere).region == "eu-north-1"


def test_a_url_that_is_none_or_has_no_region_is_said() -> None:
    with pytest.raises(Unreachable, match="it must be the API's URL"):
        find_target(Where(), {"QUAYMASTER_API_URL": "abc"})
    with pytest.raises(Unreachable, match="no region"):
        find_target(Where(), {"QUAYMASTER_API_URL": "https://api.example.com"})


def test_a_local_cloud_is_found_only_while_it_is_up(port: int) -> None:
    a_local_cloud("old", closed_port())
    url = a_local_cloud("red", port)
    target = find_target(Where(), {})
    assert (target.api_url, target.region) == (url, "us-east-1")
    credentials = target.session.get_credentials()
    assert credentials
    assert credentials.access_key == "test"


def test_of_several_local_clouds_the_default_is_meant_and_without_one_somebody_must_say(port: int) -> None:
    a_local_cloud("blue", port)
    a_local_cloud("red", port)
    with pytest.raises(Unreachable, match="several local clouds are up \\(blue, red\\)"):
        find_target(Where(), {})
    url = a_local_cloud("default", port)
    assert find_target(Where(), {}).api_url == url


def test_the_folder_of_local_clouds_may_lie_elsewhere(port: int, tmp_path: Path) -> None:
    url = a_local_cloud("red", port, tmp_path / "clouds")
    assert find_target(Where(), {"QUAYMASTER_LOCAL_DIR": str(tmp_path / "clouds")}).api_url == url


def test_a_request_without_a_body_signs_no_content_type(port: int) -> None:
    """What is signed empty is dropped on the way, and then the signature is wrong."""
    a_local_cloud("red", port)
    connect(Where()).api.pools()
    ((_, _, headers, _),) = Server.seen
    assert "content-type" not in headers
    assert ";content-type" not in headers["authorization"]
    assert "SignedHeaders=host;x-amz-date," in headers["authorization"]


def test_a_variable_comes_before_a_local_cloud_and_a_named_stack_before_both(port: int) -> None:
    a_local_cloud("red", port)
    assert find_target(Where(), {"QUAYMASTER_API_URL": URL}).api_url == URL
    with pytest.raises(Unreachable, match="no region"):
        find_target(Where(stack_name="mine"), {"QUAYMASTER_API_URL": URL})
    with pytest.raises(Unreachable, match="cannot look up stack 'quaymaster'"):
        find_target(Where(region="us-east-1"), {})


def test_an_unknown_profile_is_said() -> None:
    with pytest.raises(Unreachable, match="nobody"):
        find_target(Where(profile="nobody"), {"QUAYMASTER_API_URL": URL})


def test_a_stack_is_looked_up_in_cloudformation(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    where = Where(stack_name="mine", region="us-east-1")
    outputs = "<member><OutputKey>ApiUrl</OutputKey><OutputValue>https://api.test/</OutputValue></member>"
    answer = (
        "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>mine</StackName>"
        "<Outputs>{}</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
    )
    Server.answer = (200, answer.format(outputs).encode())
    assert find_target(where, {}).api_url == "https://api.test/"
    assert b"StackName=mine" in Server.seen[0][3]
    Server.answer = (200, answer.format("").encode())
    with pytest.raises(Unreachable, match="no deployment of Quaymaster"):
        find_target(where, {})
    error = "<ErrorResponse><Error><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>"
    Server.answer = (400, error.format("ValidationError", "Stack with id mine does not exist").encode())
    with pytest.raises(Unreachable, match="no stack 'mine' in us-east-1"):
        find_target(where, {})
    Server.answer = (403, error.format("AccessDenied", "you may not").encode())
    with pytest.raises(Unreachable, match="cannot look up stack 'mine': you may not"):
        find_target(where, {})


def test_requests_are_signed_for_the_function_url(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, "AWS_SESSION_TOKEN": "TOKEN"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("QUAYMASTER_API_URL", f"http://abc.lambda-url.us-east-1.localhost:{port}/")
    connection = connect(Where())
    connection.api.pools()
    ((method, path, headers, _),) = Server.seen
    assert (method, path) == ("GET", "/pools")
    assert headers["host"] == f"abc.lambda-url.us-east-1.localhost:{port}"
    assert headers["x-amz-security-token"] == "TOKEN"
    assert "/us-east-1/lambda/aws4_request" in headers["authorization"]
    assert expected_signature(path, headers, port) == headers["authorization"]


def expected_signature(path: str, headers: dict[str, str], port: int) -> str:
    """The signature of what arrived, by who verifies it: with the headers that arrived and the date they name."""
    signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    request = AWSRequest(
        method="GET",
        url=f"http://abc.lambda-url.us-east-1.localhost:{port}{path}",
        headers={name: headers[name] for name in signed},
    )
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(Credentials("AKID", "SECRET", "TOKEN"), "lambda", "us-east-1")
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    scope = f"Credential={auth.scope(request)}"
    return f"AWS4-HMAC-SHA256 {scope}, SignedHeaders={';'.join(signed)}, Signature={signature}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((403, b'{"Message": "Forbidden"}'), "ApiPolicyArn"),
        ((500, b"Internal Server Error"), "the API answered 500"),
        ((200, b"<html>"), "the API's answer is not understood"),
        ((200, b'{"pools": 1}'), "the API's answer is not understood"),
        ((400, b'{"error": "name: found X", "field": "name"}'), "quaymaster: name: found X\n"),
    ],
)
def test_answers_that_are_no_success_are_said_in_a_line(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: tuple[int, bytes], said: str
) -> None:
    for name, value in {**KEYS, "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("QUAYMASTER_API_URL", f"http://127.0.0.1:{port}/")
    Server.answer = answer
    assert run(["pool", "list"]) == (2 if answer[0] == 400 else 1)
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


def test_a_redirect_is_not_followed_with_a_signature(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("QUAYMASTER_API_URL", f"http://127.0.0.1:{port}/")
    Server.answer = (302, b"")
    assert run(["pool", "list"]) == 1
    assert len(Server.seen) == 1


@pytest.mark.parametrize(
    ("environment", "words", "said"),
    [
        ({}, ["pool", "list"], "no region"),
        (
            {"AWS_REGION": "us-east-1", "QUAYMASTER_API_URL": "http://127.0.0.1:{closed}"},
            ["pool", "list"],
            "credentials",
        ),
        ({"AWS_REGION": "us-east-1"}, ["pool", "list", "--stack-name", "x"], "redentials"),
        (
            {**KEYS, "AWS_REGION": "a", "QUAYMASTER_API_URL": "http://127.0.0.1:{closed}"},
            ["run", "why", "x"],
            "cannot reach",
        ),
        (
            {**KEYS, "AWS_REGION": "a", "AWS_ENDPOINT_URL": "http://127.0.0.1:{closed}"},
            ["pool", "list"],
            "cannot look up",
        ),
        ({}, ["pool", "list", "--profile", "nobody"], "nobody"),
        ({}, ["nonsense"], "nonsense"),
        ({}, ["pool", "list", "--nonsense"], "nonsense"),
    ],
)
def test_the_installed_command_never_shows_a_traceback(
    environment: dict[str, str], words: list[str], said: str, tmp_path: Path
) -> None:
    closed = str(closed_port())
    variables = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        **{name: value.replace("{closed}", closed) for name, value in environment.items()},
    }
    command = [str(Path(sys.executable).with_name("quaymaster")), *words]
    ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode in (1, 2), ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_reader_that_leaves_ends_the_command_quietly(port: int, tmp_path: Path) -> None:
    pools = [
        {"id": "x", "name": f"p{n}", "kind": "private", "created_at": "2026-01-01T00:00:00Z",
         "counts": {"idle": 0, "busy": 0, "absent": 0, "starting": 0, "queued": 0}}
        for n in range(5000)
    ]  # fmt: skip
    Server.answer = (200, json.dumps({"pools": pools}).encode())
    variables = {**KEYS, "PATH": os.environ["PATH"], "AWS_REGION": "a", "HOME": str(tmp_path)}
    variables["QUAYMASTER_API_URL"] = f"http://127.0.0.1:{port}/"
    command = f"{Path(sys.executable).with_name('quaymaster')} pool list | head -n 1"
    ended = subprocess.run(["sh", "-c", command], env=variables, capture_output=True, text=True, check=False)
    assert ended.stdout.startswith("NAME")
    assert ended.stderr == ""


def test_a_network_that_breaks_in_the_middle_is_a_line() -> None:
    cli = Cli()

    def break_down(_request: httpx.Request) -> None:
        raise httpx.ReadError("")

    cli.before = break_down
    ended = cli("pool", "list")
    assert (ended.code, ended.err) == (1, "quaymaster: cannot reach api.test: ReadError\n")


def test_a_network_that_comes_back_while_a_log_is_followed_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quaymaster_cli.deployment.client.PAUSES", (0.0, 0.0, 0.0))
    cli = Cli()
    cli.api.pool("red")
    run_id = begin(cli.api, add_run(cli.api)).id
    failures = iter([False, True, True])

    def fail_twice(_request: httpx.Request) -> None:
        if next(failures, False):
            raise httpx.ConnectError("refused")

    cli.before = fail_twice
    client = cli.client()
    assert client.run(run_id) == client.run(run_id)
    assert next(failures, None) is None
    failures = iter([True] * 9)
    with pytest.raises(Disconnected, match=r"cannot reach api\.test: refused"):
        client.run(run_id)
    assert len(list(failures)) == 5


def test_starting_loads_nothing_that_only_some_commands_need() -> None:
    loaded = "import sys, quaymaster_cli.main; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert set(ended.stdout.split()) & {"boto3", "httpx", "rich.table", "cryptography"} == set()
