"""A client that speaks over MQTT with whatever identity it is given: as a worker that lies, or as a requester."""

# awscrt brings no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false

import base64
import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from awscrt import io, mqtt5
from quaymaster.domain import messages as m
from quaymaster.domain.ids import topic_from, topic_to, ulid, worker_id
from quaymaster_local.cloud import LocalCloud

from tests.shared.deployed.client import Credential

SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a client connects with, and what it listens to."""

    client_id: str
    certificate: str
    key: str
    topics: Sequence[str]


class Client:
    """Connected and subscribed within its `with` block; keeps every message that comes."""

    def __init__(self, cloud: LocalCloud, identity: Identity) -> None:
        self._identity = identity
        self._heard: list[bytes] = []
        self._news = threading.Condition()
        self._connected, self._stopped = threading.Event(), threading.Event()
        options = io.TlsContextOptions.create_client_with_mtls(identity.certificate.encode(), identity.key.encode())
        options.override_default_trust_store(cloud.ca_pem.encode())
        self._client = mqtt5.Client(
            mqtt5.ClientOptions(
                host_name=cloud.mqtt_host,
                port=cloud.mqtt_port,
                tls_ctx=io.ClientTlsContext(options),
                connect_options=mqtt5.ConnectPacket(client_id=identity.client_id, keep_alive_interval_sec=30),
                on_lifecycle_event_connection_success_fn=lambda _: self._connected.set(),
                on_lifecycle_event_stopped_fn=lambda _: self._stopped.set(),
                on_publish_callback_fn=self._hear,
                disable_metrics=True,
            )
        )

    def __enter__(self) -> Self:
        self._client.start()
        assert self._connected.wait(SECONDS), "the broker did not let it in"
        topics = [mqtt5.Subscription(topic, mqtt5.QoS.AT_LEAST_ONCE) for topic in self._identity.topics]
        answer = self._client.subscribe(mqtt5.SubscribePacket(subscriptions=topics)).result(SECONDS)
        assert all(code < 128 for code in answer.reason_codes), answer.reason_codes
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.stop(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION))
        self._stopped.wait(SECONDS)

    def publish(self, topic: str, payload: bytes) -> None:
        """Send with QoS 1."""
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE)
        self._client.publish(packet).result(SECONDS)

    def hear(self, count: int = 1, **fields: object) -> dict[str, Any]:
        """Wait until so many messages came that have all these fields; the last of them."""
        end = time.monotonic() + SECONDS
        with self._news:
            while len(found := self._matching(fields)) < count:
                assert self._news.wait(end - time.monotonic()), f"no message with {fields}"
            return found[count - 1]

    def heard(self, **fields: object) -> list[dict[str, Any]]:
        """The messages so far that have all these fields."""
        with self._news:
            return self._matching(fields)

    def _matching(self, fields: Mapping[str, object]) -> list[dict[str, Any]]:
        bodies: list[dict[str, Any]] = [json.loads(body) for body in self._heard]
        return [body for body in bodies if all(body.get(name) == value for name, value in fields.items())]

    def _hear(self, data: mqtt5.PublishReceivedData) -> None:
        with self._news:
            self._heard.append(bytes(data.publish_packet.payload or b""))
            self._news.notify_all()


class Impostor(Client):
    """Holds a pool's token and key, registers as a worker, and then runs nothing."""

    def __init__(self, cloud: LocalCloud, pool: Credential) -> None:
        token = m.PoolToken.model_validate_json(base64.b64decode(pool.token))
        name = ulid(datetime.now(UTC), secrets.token_bytes(10))
        self.session = ulid(datetime.now(UTC), secrets.token_bytes(10))
        self._token = token
        self._worker = worker_id(token.namespace, token.pool_id, name)
        self.topic = topic_to(token.namespace, token.pool_id, self._worker)
        identity = Identity(client_id=self._worker, certificate=token.certificate, key=pool.key, topics=[self.topic])
        super().__init__(cloud, identity)

    def __enter__(self) -> Self:
        super().__enter__()
        self.say("registered", m.Registered(session=self.session, agent_version="0"))
        return self

    def say(self, event: str, message: m.FromAgent) -> None:
        """Send one of the messages that agents send."""
        topic = topic_from(self._token.namespace, self._token.pool_id, self._worker, event)
        self.publish(topic, message.encode())

    def begin(self, run: str) -> None:
        """Claim to have prepared what is assigned, and take the `go`."""
        self.hear(kind="assign", run=run)
        self.say("prepared", m.Prepared(session=self.session, run=run, attempt=1))
        self.hear(kind="go", run=run)
