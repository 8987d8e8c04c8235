"""The ECS endpoint: an HTTP server on 127.0.0.1 that speaks the ECS JSON protocol and serves task metadata.

A process of its own, started with the path of its configuration: `python -m quaymaster_local.ecs.endpoint FILE`.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, cast
from urllib.parse import urlsplit

from quaymaster_local.aws import RootClients
from quaymaster_local.ecs.callers import Callers, SignedCall
from quaymaster_local.ecs.definitions import TARGET, Definitions
from quaymaster_local.ecs.errors import EcsError
from quaymaster_local.ecs.faults import Faults
from quaymaster_local.ecs.operations import Operations
from quaymaster_local.ecs.tasks.board import Surroundings, TaskBoard
from quaymaster_local.ecs.tasks.containers import ContainerHost
from quaymaster_local.ecs.tasks.events import TaskEvents
from quaymaster_local.ecs.tasks.roles import TaskRoles
from quaymaster_local.ecs.tasks.secrets import Secrets
from quaymaster_local.processes.lifeline import wait_for_end
from quaymaster_local.processes.ports import answers
from quaymaster_local.settings import LOOPBACK

log = logging.getLogger(__name__)

CREDENTIALS_PATH = "/v2/credentials/"
FAULTS_PATH = "/_quaymaster/faults"
CLEAN_UP_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """What the endpoint's process is told. When the lifeline ends, it stops and removes `folder`."""

    port: int
    endpoint_url: str
    secret: str
    agent: str
    folder: str
    tasks: str
    logs: str
    path: str
    start_delay_seconds: float
    lifeline: int

    def write(self, file: Path) -> None:
        """Write it where only this user reads it: it holds the secret."""
        file.touch(mode=0o600)
        file.write_text(json.dumps(asdict(self)))


class EcsServer(ThreadingHTTPServer):
    """One local cloud's ECS."""

    daemon_threads = True
    # Ten functions may ask at once, each with several connections.
    request_queue_size = 128

    def __init__(self, config: EndpointConfig) -> None:
        super().__init__((LOOPBACK, config.port), EcsHandler)
        clients = RootClients(config.endpoint_url)
        self.callers = Callers(config.endpoint_url, config.secret, clients.client("iam"))
        self.roles = TaskRoles(clients.client("sts"))
        self.events = TaskEvents(clients.client("events"), clients.client("lambda"))
        host = ContainerHost(
            agent=Path(config.agent),
            tasks=Path(config.tasks),
            logs=Path(config.logs),
            path=config.path,
            metadata_url=f"http://{LOOPBACK}:{config.port}",
        )
        self.board = TaskBoard(
            Surroundings(
                host=host,
                secrets=Secrets(clients.client("ssm"), self.callers),
                events=self.events,
                start_delay=timedelta(seconds=config.start_delay_seconds),
            )
        )
        self.operations = Operations(
            board=self.board,
            definitions=Definitions(config.endpoint_url),
            callers=self.callers,
            faults=Faults(),
        )

    def close(self) -> None:
        """Kill every task and stop serving."""
        self.board.close()
        self.events.close()
        self.server_close()


class EcsHandler(BaseHTTPRequestHandler):
    """Reads one HTTP request and writes its answer."""

    protocol_version = "HTTP/1.1"
    # The answer is written in two pieces; without this each waits for the client's acknowledgement (40 ms).
    disable_nagle_algorithm = True

    @property
    def ecs(self) -> EcsServer:
        """The server this request came to."""
        return cast(EcsServer, self.server)

    def do_POST(self) -> None:
        """Answer an API call, or order a fault."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._send(*self._answer(body))
        except EcsError as error:
            self._send(error.status, json.dumps(error.body()).encode(), error.code)
        except Exception as error:  # the client must get an answer, and the log the reason
            log.exception("%s failed", self.headers.get("X-Amz-Target"))
            self._send(500, json.dumps({"__type": "ServerException", "message": repr(error)}).encode())

    def do_GET(self) -> None:
        """Serve task metadata, `/v4/<task id>` and `/v4/<task id>/task`, and a role: `/v2/credentials/<id>`."""
        if self.path.startswith(CREDENTIALS_PATH):
            return self._send_credentials(self.path.removeprefix(CREDENTIALS_PATH))
        _, version, task_id, *rest = [*self.path.split("/"), "", ""][:4]
        task = self.ecs.board.find([task_id]).get(task_id) if version == "v4" else None
        if task is None:
            return self._send(404, b'{"message": "not found"}')
        shown = task.as_metadata() if rest == ["task"] else task.container_metadata()
        self._send(200, json.dumps(shown).encode())

    def _send_credentials(self, name: str) -> None:
        tasks = self.ecs.board.tasks(lambda task: task.credentials_id == name and not task.ended)
        role = tasks[0].definition.task_role_arn if tasks else None
        if role is None:
            return self._send(404, b'{"message": "not found"}')
        self._send(200, json.dumps(self.ecs.roles.credentials(role, tasks[0].id)).encode())

    def _answer(self, body: bytes) -> tuple[int, bytes]:
        call = SignedCall(method="POST", path=self.path, headers=dict(self.headers.items()), body=body)
        caller = self.ecs.callers.identify(call)
        if self.path == FAULTS_PATH:
            self.ecs.operations.order_fault(caller, json.loads(body))
            return 200, b"{}"
        operation = (self.headers.get("X-Amz-Target") or "").removeprefix(f"{TARGET}.")
        return self.ecs.operations.answer(operation, caller, body)

    def _send(self, status: int, body: bytes, error: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        if error is not None:
            self.send_header("x-amzn-ErrorType", error)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log the request with its operation."""
        log.info("%s %s", self.headers.get("X-Amz-Target") if hasattr(self, "headers") else "-", format % args)


def serve(config: EndpointConfig) -> None:
    """Serve until SIGTERM, or until the lifeline closes."""
    server = EcsServer(config)

    def shut_down(_number: int, _frame: FrameType | None) -> None:
        # shutdown() waits for serve_forever(), so it cannot be called by the thread that serves.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, shut_down)
    orphaned = threading.Event()

    def watch() -> None:
        if wait_for_end(config.lifeline):
            orphaned.set()
            server.shutdown()

    threading.Thread(target=watch, daemon=True).start()
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        server.close()
    if orphaned.is_set():
        _clean_up(config)


def _clean_up(config: EndpointConfig) -> None:
    # ministack hangs on the same lifeline; while it runs it still writes.
    deadline = time.monotonic() + CLEAN_UP_SECONDS
    while answers(urlsplit(config.endpoint_url).port or 0) and time.monotonic() < deadline:
        time.sleep(0.1)
    shutil.rmtree(config.folder, ignore_errors=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    serve(EndpointConfig(**json.loads(Path(sys.argv[1]).read_text())))
