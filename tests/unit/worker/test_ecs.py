"""Which task an agent runs in: asked until the metadata endpoint says so."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from quaymaster_worker.ecs import PATIENCE_SECONDS, task_name
from quaymaster_worker.errors import AgentError

ARN = "arn:aws:ecs:us-east-1:000000000000:task/quaymaster/0123456789abcdef0123456789abcdef"
GOOD = (200, json.dumps({"TaskARN": ARN}).encode())


@contextmanager
def endpoint(*answers: tuple[int, bytes]) -> Generator[str]:
    """Gives these answers one after the other, and the last one for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("bad", [(503, b""), (500, b"{}"), (200, b"no JSON"), (200, b"{}"), (200, b"[]"), (404, b"")])
def test_an_endpoint_that_is_not_ready_yet_is_asked_again(bad: tuple[int, bytes]) -> None:
    pauses: list[float] = []
    with endpoint(bad, bad, GOOD) as uri:
        assert task_name(uri, pauses.append) == "0123456789abcdef0123456789abcdef"
    assert pauses == [0.5, 1.0]


def test_after_a_minute_it_is_said_what_is_missing() -> None:
    pauses: list[float] = []
    with endpoint((503, b"")) as uri, pytest.raises(AgentError, match="does not say which task this is"):
        task_name(uri, pauses.append)
    assert PATIENCE_SECONDS <= sum(pauses) <= PATIENCE_SECONDS + 10
