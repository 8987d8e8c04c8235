"""A broker and a store for agents, and what answers them; the test may say whatever it likes beside that."""

import base64
import gzip
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import psutil
from botocore.config import Config
from quaymaster.domain import messages as m
from quaymaster.domain.ids import topic_to, ulid
from quaymaster.domain.objects import chunk_prefix, log_end_key, log_key
from quaymaster_local.ministack.server import LAUNCHER
from quaymaster_local.settings import Settings
from quaymaster_sealing.keys import generate_key, make_csr

from tests.integration.control_plane import ControlPlane, Offer, Terms

BUCKET = "agent-lab"
NAMESPACE = "quaymaster"
ARN = "arn:aws:iot:us-east-1:000000000000"
REPOSITORY = Path(__file__).resolve().parents[2]
END_SECONDS = 60
"""So long may an agent take to end on a busy machine."""


@dataclass
class AgentUnderTest:
    """An agent process and what it has been told."""

    process: subprocess.Popen[bytes]
    log: Path
    worker: str = ""
    session: str = ""
    registered: m.Registered | None = None

    def wait(self, seconds: float = END_SECONDS) -> int:
        """Its exit code, once it has ended. Raises subprocess.TimeoutExpired."""
        return self.process.wait(seconds)

    def wait_for_line(self, seconds: float = 60, **fields: str) -> None:
        """Wait until its own log has a line with these fields. Raises AssertionError."""
        deadline = time.monotonic() + seconds
        while not any(fields.items() <= line.items() for line in self.lines):
            assert time.monotonic() < deadline, f"it never logged {fields}"
            time.sleep(0.05)

    def end(self) -> None:
        """End it, and wait until nothing that it started lives; raises AssertionError if something does."""
        family: list[psutil.Process] = []
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=END_SECONDS)
        assert not alive, f"an agent's own processes outlive it: {alive}"

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its own log."""
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]


@dataclass
class Lab:
    """ministack, a pool in it, and agents."""

    folder: Path
    logs: Path
    settings: Settings
    agents: list[AgentUnderTest] = field(default_factory=list[AgentUnderTest])

    def __enter__(self) -> "Lab":
        self.control = ControlPlane(self._publish)
        self._start_ministack()
        self.s3, self.iot, self.data = self._client("s3"), self._client("iot"), self._client("iot-data")
        self.s3.create_bucket(Bucket=BUCKET)
        self.pool = ulid(datetime.now(UTC), secrets.token_bytes(10))
        self.key = generate_key()
        self.certificate = self._certificate("agents", self.pool_policy())
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.end_agents()
        if self._listener.poll() is None:
            self._listener.kill()
        self._listener.wait()
        self._hearing.join(5)
        if self._listener.stdout:
            self._listener.stdout.close()
        self._ministack.terminate()
        self._ministack.wait()
        os.close(self._lifeline)

    def end_agents(self) -> None:
        """End every agent that still runs."""
        for agent in self.agents:
            agent.end()

    def pool_policy(self) -> Mapping[str, Any]:
        """What the certificate of a pool's agents may do."""
        own, everyone = (f"{NAMESPACE}/to/{self.pool}/{who}" for who in ("${iot:ClientId}", "all"))
        sends = f"{NAMESPACE}/from/{self.pool}/${{iot:ClientId}}/*"
        return {
            "Version": "2012-10-17",
            "Statement": [
                _allow("iot:Connect", f"{ARN}:client/{NAMESPACE}.{self.pool}.*"),
                _allow("iot:Subscribe", f"{ARN}:topicfilter/{own}", f"{ARN}:topicfilter/{everyone}"),
                _allow("iot:Receive", f"{ARN}:topic/{own}", f"{ARN}:topic/{everyone}"),
                _allow("iot:Publish", f"{ARN}:topic/{sends}"),
            ],
        }

    def token(
        self,
        certificate: str | None = None,
        *,
        first_endpoints: list[m.Endpoint] | None = None,
        port: int | None = None,
        also_trusted: str = "",
    ) -> str:
        """The pool's token, as an agent gets it."""
        token = m.PoolToken(
            namespace=NAMESPACE,
            pool_id=self.pool,
            mqtt=[*(first_endpoints or []), m.Endpoint(host="localhost", port=port or self.mqtt_port)],
            certificate=certificate or self.certificate,
            ca=self.ca + also_trusted,
        )
        return base64.b64encode(json.dumps(token.dump()).encode()).decode()

    def start(self, *arguments: str, **environment: str) -> AgentUnderTest:
        """Start an agent of this environment, with the pool's token and key."""
        plain = {
            "PATH": os.environ["PATH"],
            "TMPDIR": tempfile.gettempdir(),
            "QUAYMASTER_TOKEN": self.token(),
            "QUAYMASTER_POOL_PRIVATE_KEY": self.key.decode(),
            "QUAYMASTER_STATE_DIR": str(self.folder / "state"),
        }
        program = Path(sys.executable).with_name("quaymaster-agent")
        return self.start_program([str(program), *arguments], plain | environment)

    def start_program(self, command: list[str], environment: dict[str, str]) -> AgentUnderTest:
        """Start an agent, however it is installed; its metadata has a number, by which it is told from others."""
        number = len(self.agents)
        log = self.logs / f"agent-{number}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, env=environment | {"QUAYMASTER_METADATA_number": str(number)}, stderr=file
            )
        agent = AgentUnderTest(process, log)
        self.agents.append(agent)
        return agent

    def start_welcomed(self, *arguments: str, terms: Terms | None = None, **environment: str) -> AgentUnderTest:
        """Start an agent, and wait until it has registered."""
        agent = self.welcome(self.start(*arguments, **environment))
        if terms:
            self.control.agree(agent.worker, agent.session, terms)
        return agent

    def welcome(self, agent: AgentUnderTest) -> AgentUnderTest:
        """Wait until it has registered."""
        number = str(self.agents.index(agent))
        agent.worker, agent.registered = self.control.wait(
            m.Registered, lambda registered: registered.metadata.get("number") == number
        )
        agent.session = agent.registered.session
        return agent

    def crew(self, agent: AgentUnderTest, count: int) -> list[AgentUnderTest]:
        """The workers of one process, once all have registered."""
        number, found = str(self.agents.index(agent)), dict[str, AgentUnderTest]()
        while len(found) < count:
            worker, registered = self.control.wait(
                m.Registered, lambda r: r.metadata.get("number") == number and r.session not in found
            )
            found[registered.session] = AgentUnderTest(agent.process, agent.log, worker, registered.session, registered)
        return list(found.values())

    def assign(
        self,
        agent: AgentUnderTest,
        run: str,
        command: list[str],
        *,
        held_back: bool = True,
        store: int | None = None,
        **options: Any,
    ) -> None:
        """Offer a run's first attempt, with the store behind a port of the test's; nothing begins unless told."""
        plain: dict[str, Any] = {
            "log_timeout_seconds": 60,
            "run_timeout_seconds": 120,
            "prepare_timeout_seconds": 60,
            "warning_seconds": 1,
            "grants": self.grants(run, port=store),
        }
        message = m.Assign(
            session=agent.session, run=run, attempt=1, type="task", phase="perform", command=command, **plain | options
        )
        offer = Offer(assign=message, held_back=held_back, grants=lambda: self.grants(run, port=store))
        self.control.offer(agent.worker, offer)

    def begin(self, agent: AgentUnderTest, run: str, command: list[str], **options: Any) -> None:
        """Offer a run that may begin, and wait until it has: what is said of it then finds it running."""
        self.assign(agent, run, command, held_back=False, **options)
        agent.wait_for_line(msg="the phase begins", run=run, worker=agent.worker)

    def finish(self, run: str, seconds: float = 120) -> m.PhaseFinished:
        """Wait for a run's end."""
        _, report = self.control.wait(m.PhaseFinished, lambda report: report.run == run, seconds=seconds)
        return report

    def send(self, agent: AgentUnderTest, message: m.ToAgent) -> None:
        """Send a message to an agent."""
        self._publish(agent.worker, message)

    def _publish(self, worker: str, message: m.ToAgent) -> None:
        self.data.publish(topic=topic_to(NAMESPACE, self.pool, worker), qos=1, payload=message.encode())

    def grants(self, run: str, life_seconds: int = 1800, port: int | None = None) -> m.Grants:
        """Presigned permission for a run's first attempt."""
        prefix = chunk_prefix(self.pool, run, 1)
        s3 = self._client("s3", port) if port else self.s3
        conditions = [["starts-with", "$key", prefix], ["content-length-range", 0, 10 << 20]]
        post = s3.generate_presigned_post(BUCKET, prefix + "${filename}", Conditions=conditions, ExpiresIn=life_seconds)

        def put(key: str) -> m.PutGrant:
            wanted = {"Bucket": BUCKET, "Key": key, "IfNoneMatch": "*"}
            url = s3.generate_presigned_url("put_object", Params=wanted, ExpiresIn=life_seconds)
            return m.PutGrant(url=url, headers={"If-None-Match": "*"})

        return m.Grants(
            chunks=m.PostGrant(url=post["url"], fields=post["fields"], key_prefix=prefix, max_bytes=10 << 20),
            log=put(log_key(self.pool, run, 1)),
            log_end=put(log_end_key(self.pool, run, 1)),
            expires_in_seconds=life_seconds,
        )

    def workspace(self, key: str, content: bytes) -> str:
        """Store a packed workspace; returns a presigned GET."""
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return self.s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key})

    def log_of(self, run: str) -> list[tuple[str, str]]:
        """A run's final log, as (stream, msg)."""
        body = self.s3.get_object(Bucket=BUCKET, Key=log_key(self.pool, run, 1))["Body"].read()
        return [(line["stream"], line["msg"]) for line in map(json.loads, gzip.decompress(body).splitlines())]

    def chunks_of(self, run: str) -> list[tuple[str, str]]:
        """A run's chunks in order, as (stream, msg)."""
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=chunk_prefix(self.pool, run, 1)).get("Contents", [])
        bodies = [self.s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in found]
        lines = b"".join(map(gzip.decompress, bodies)).splitlines()
        return [(line["stream"], line["msg"]) for line in map(json.loads, lines)]

    def wait_for_chunks(self, run: str, seconds: float = 60) -> list[tuple[str, str]]:
        """A run's chunks, once there are any. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not (lines := self.chunks_of(run)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no chunks of {run}")
            time.sleep(0.1)
        return lines

    def end_of(self, run: str) -> m.LogEnd:
        """A run's end marker."""
        body = self.s3.get_object(Bucket=BUCKET, Key=log_end_key(self.pool, run, 1))["Body"].read()
        return m.LogEnd.model_validate_json(body)

    def _client(self, service: str, port: int | None = None) -> Any:
        config = Config(s3={"addressing_style": "path"}, signature_version="s3v4" if service == "s3" else None)
        session: Any = boto3.Session("test", "test", region_name="us-east-1")
        return session.client(service, endpoint_url=f"http://127.0.0.1:{port or self.http_port}", config=config)

    def _certificate(self, policy: str, document: Mapping[str, Any]) -> str:
        made = self.iot.create_certificate_from_csr(certificateSigningRequest=make_csr(self.key), setAsActive=True)
        self.iot.create_policy(policyName=policy, policyDocument=json.dumps(document))
        self.iot.attach_policy(policyName=policy, target=made["certificateArn"])
        return made["certificatePem"]

    def _start_ministack(self) -> None:
        self.http_port, self.mqtt_port = _free_port(), _free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        watched, self._lifeline = os.pipe()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.http_port),
            "IOT_MTLS_PORT": str(self.mqtt_port),
            "SFTP_ENABLED": "0",
            "QUAYMASTER_LOCAL_SECRET": secrets.token_hex(16),
            "QUAYMASTER_LOCAL_LIFELINE": str(watched),
        }
        with (self.logs / "ministack.log").open("wb") as log:
            self._ministack = subprocess.Popen(
                [self.settings.ministack_python, "-P", LAUNCHER],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                pass_fds=[watched],
            )
        os.close(watched)
        self.ca = self._wait_for_ca()

    def _wait_for_ca(self) -> str:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.url}/_ministack/iot/ca.pem", timeout=5) as answer:
                    return answer.read().decode()
            except OSError:
                assert self._ministack.poll() is None, (self.logs / "ministack.log").read_text()
                time.sleep(0.05)
        raise TimeoutError("ministack does not answer")

    def _listen(self) -> None:
        """Hear the agents in a process of its own, so that the test's process has no threads of awscrt's."""
        document = {"Version": "2012-10-17", "Statement": [_allow("iot:*", "*")]}
        setting = {"token": self.token(self._certificate("ear", document)), "key": self.key.decode()}
        command = [sys.executable, "-m", "tests.integration.listener"]
        self._listener = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY)
        assert self._listener.stdin
        assert self._listener.stdout
        self._listener.stdin.write(json.dumps(setting).encode() + b"\n")
        self._listener.stdin.close()
        assert self._listener.stdout.readline() == b"connected\n"
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()

    def _hear(self) -> None:
        assert self._listener.stdout
        for line in self._listener.stdout:
            topic, payload = json.loads(line)
            self.control.hear(topic, base64.b64decode(payload))


@contextmanager
def open_lab(settings: Settings, logs: Path) -> Generator[Lab]:
    """A lab in a folder that phases with a user of their own get through to, which pytest's folders do not allow."""
    with tempfile.TemporaryDirectory(prefix="quaymaster-lab-") as folder:
        Path(folder).chmod(0o711)
        with Lab(Path(folder), logs, settings) as lab:
            yield lab


def _allow(action: str, *resources: str) -> Mapping[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": list(resources)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
