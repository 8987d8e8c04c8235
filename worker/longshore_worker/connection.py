"""One worker's MQTT 5 connection over mutual TLS. The only module that knows awscrt.

awscrt calls back on a thread of its own; everything is handed to the event loop before it is looked at.
"""

# awscrt brings no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from awscrt import io, mqtt5
from awscrt.exceptions import AwsCrtError
from longshore.domain.messages import Endpoint, PoolToken

from longshore_worker.errors import ConfigurationRefused

KEEP_ALIVE = 30
PING_TIMEOUT = 10
CONNECT_TIMEOUT = 15
LONGEST_RECONNECT = 30
NEXT_ENDPOINT_AFTER = 30.0
FEWEST_REFUSALS = 3
SHORT_LIFE = 10.0
"""A connection that ends within these seconds, without a message on it, was refused by its policy."""

_REFUSING = frozenset(
    {
        mqtt5.ConnectReasonCode.NOT_AUTHORIZED,
        mqtt5.ConnectReasonCode.BAD_USERNAME_OR_PASSWORD,
        mqtt5.ConnectReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
        mqtt5.ConnectReasonCode.BANNED,
    }
)
_REFUSING_ERRORS = frozenset(
    {
        "AWS_IO_TLS_ERROR_NEGOTIATION_FAILURE",
        "AWS_IO_TLS_ALERT_NOT_GRACEFUL",
        "AWS_ERROR_MQTT_UNEXPECTED_HANGUP",
        "AWS_IO_SOCKET_CLOSED",
        "AWS_IO_TLS_CLOSED_BEFORE_ALERT",
    }
)
_PING_LOST = "AWS_ERROR_MQTT5_PING_RESPONSE_TIMEOUT"

log = logging.getLogger("longshore.connection")


class Listener(Protocol):
    """Who is told what happens on a connection; called on the event loop."""

    def on_connected(self) -> None:
        """Connected, and subscribed."""
        ...

    def on_disconnected(self, unreachable_seconds: float) -> None:
        """The connection is down; the broker was last certainly there so many seconds ago."""
        ...

    def on_message(self, payload: bytes) -> None:
        """A message came."""
        ...

    def on_rejected(self, note: str) -> None:
        """The broker has refused the certificate or its policy for so long that nothing will change."""
        ...

    def on_taken_over(self) -> None:
        """Another process has connected with this worker's id."""
        ...


class Crt:
    """What all connections of the process share: one thread, one TLS context."""

    def __init__(self, token: PoolToken, private_key: bytes) -> None:
        """Raises ConfigurationRefused when certificate, key or CA cannot be used."""
        group = io.EventLoopGroup(1)
        self.bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))
        options = io.TlsContextOptions.create_client_with_mtls(token.certificate.encode(), private_key)
        if token.ca:
            options.override_default_trust_store(token.ca.encode())
        try:
            self.tls = io.ClientTlsContext(options)
        except AwsCrtError as error:
            found = f"a certificate, key or CA that cannot be used ({error.name})"
            raise ConfigurationRefused(
                "LONGSHORE_TOKEN", found, "a token and the private key that belongs to it"
            ) from None


@dataclass(frozen=True, kw_only=True)
class Address:
    """Who connects where, and listens to what."""

    endpoints: Sequence[Endpoint]
    client_id: str
    topics: Sequence[str]
    give_up_after_seconds: float


class MqttConnection:
    """Connects, reconnects, subscribes at every connection, and tries the next endpoint when one stays down."""

    def __init__(self, crt: Crt, address: Address, listener: Listener, clock: Callable[[], float]) -> None:
        self._crt = crt
        self._address = address
        self._listener = listener
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._endpoint = 0
        self._client: mqtt5.Client | None = None
        self._stopped = asyncio.Event()
        self._closing = False
        self._up = False
        self._connected_at: float | None = None
        self._heard = False
        self._down_since = clock()
        self._refused_since: float | None = None
        self._refusals = 0

    def start(self) -> None:
        """Begin to connect."""
        self._stopped.clear()
        self._down_since = self._clock()
        self._client = self._make_client(self._address.endpoints[self._endpoint])
        self._client.start()

    def publish(self, topic: str, payload: bytes) -> None:
        """Send with QoS 1, if connected; what matters is repeated by whoever sends it."""
        if not self._up or not self._client:
            return
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE)
        future = self._client.publish(packet)
        future.add_done_callback(partial(_note_failure, topic))

    async def close(self) -> None:
        """Disconnect in order, so that the broker does not take it for a lost connection."""
        self._closing = True
        if self._client:
            self._client.stop(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION))
            try:
                async with asyncio.timeout(5):
                    await self._stopped.wait()
            except TimeoutError:
                log.warning("the connection did not close in time")
            self._client = None

    def _make_client(self, endpoint: Endpoint) -> mqtt5.Client:
        tell = self._tell
        return mqtt5.Client(
            mqtt5.ClientOptions(
                host_name=endpoint.host,
                port=endpoint.port,
                bootstrap=self._crt.bootstrap,
                tls_ctx=self._crt.tls,
                connect_options=mqtt5.ConnectPacket(
                    client_id=self._address.client_id,
                    keep_alive_interval_sec=KEEP_ALIVE,
                    session_expiry_interval_sec=0,
                ),
                session_behavior=mqtt5.ClientSessionBehaviorType.CLEAN,
                offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
                extended_validation_and_flow_control_options=(
                    mqtt5.ExtendedValidationAndFlowControlOptions.AWS_IOT_CORE_DEFAULTS
                ),
                retry_jitter_mode=mqtt5.ExponentialBackoffJitterMode.FULL,
                min_reconnect_delay_ms=500,
                max_reconnect_delay_ms=LONGEST_RECONNECT * 1000,
                min_connected_time_to_reset_reconnect_delay_ms=30_000,
                ping_timeout_ms=PING_TIMEOUT * 1000,
                connack_timeout_ms=CONNECT_TIMEOUT * 1000,
                on_publish_callback_fn=lambda data: tell(self._received, data),
                on_lifecycle_event_connection_success_fn=lambda data: tell(self._succeeded, data),
                on_lifecycle_event_connection_failure_fn=lambda data: tell(self._failed, data),
                on_lifecycle_event_disconnection_fn=lambda data: tell(self._lost, data),
                on_lifecycle_event_stopped_fn=lambda data: tell(self._was_stopped, data),
                disable_metrics=True,
            )
        )

    def _tell(self, what: Callable[[Any], None], data: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, data)

    # On the event loop.

    def _succeeded(self, _data: mqtt5.LifecycleConnectSuccessData) -> None:
        self._connected_at, self._heard = self._clock(), False
        if self._closing or not self._client:
            return
        packet = mqtt5.SubscribePacket(
            subscriptions=[mqtt5.Subscription(topic, mqtt5.QoS.AT_LEAST_ONCE) for topic in self._address.topics]
        )
        future = self._client.subscribe(packet)
        future.add_done_callback(lambda done: self._tell(self._subscribed, done))

    def _subscribed(self, done: "Future[mqtt5.SubackPacket]") -> None:
        if self._closing:
            return
        error = done.exception()
        refused = [] if error else [code for code in done.result().reason_codes if code >= 128]
        if error:
            # The connection is going down; awscrt tries again, and so does this.
            log.debug("subscribing failed", extra={"error": repr(error)})
            return
        if refused:
            self._count_refusal(f"the policy does not allow to subscribe ({refused[0]})")
            self._restart()
            return
        self._up = True
        self._listener.on_connected()

    def _received(self, data: mqtt5.PublishReceivedData) -> None:
        self._heard, self._refused_since, self._refusals = True, None, 0
        self._listener.on_message(bytes(data.publish_packet.payload or b""))

    def _failed(self, data: mqtt5.LifecycleConnectFailureData) -> None:
        name = getattr(data.exception, "name", repr(data.exception))
        code = data.connack_packet.reason_code if data.connack_packet else None
        log.info("cannot connect", extra={"error": name, "code": code, "host": self._host})
        if code in _REFUSING or (code is None and name in _REFUSING_ERRORS):
            self._count_refusal(f"the broker refuses the connection ({name if code is None else code})")
        self._try_next_endpoint()

    def _lost(self, data: mqtt5.LifecycleDisconnectData) -> None:
        was_up, self._up = self._up, False
        name = getattr(data.exception, "name", repr(data.exception))
        code = data.disconnect_packet.reason_code if data.disconnect_packet else None
        self._down_since = self._clock()
        if self._closing:
            return
        log.info("disconnected", extra={"error": name, "code": code, "host": self._host})
        if was_up:
            self._listener.on_disconnected(KEEP_ALIVE + PING_TIMEOUT if name == _PING_LOST else 0.0)
        if code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER:
            self._listener.on_taken_over()
        elif not self._heard and self._connected_at and self._clock() - self._connected_at < SHORT_LIFE:
            self._count_refusal("the broker ends each connection at once: the pool's policy does not allow it")

    def _was_stopped(self, _data: mqtt5.LifecycleStoppedData) -> None:
        self._stopped.set()

    @property
    def _host(self) -> str:
        endpoint = self._address.endpoints[self._endpoint]
        return f"{endpoint.host}:{endpoint.port}"

    def _count_refusal(self, note: str) -> None:
        now = self._clock()
        self._refusals += 1
        self._refused_since = now if self._refused_since is None else self._refused_since
        lasted = now - self._refused_since
        if self._refusals >= FEWEST_REFUSALS and lasted >= self._address.give_up_after_seconds and not self._closing:
            self._listener.on_rejected(note)

    def _try_next_endpoint(self) -> None:
        many = len(self._address.endpoints) > 1
        if many and not self._closing and self._clock() - self._down_since >= NEXT_ENDPOINT_AFTER:
            self._endpoint = (self._endpoint + 1) % len(self._address.endpoints)
            self._restart()

    def _restart(self) -> None:
        self._task = self._loop.create_task(self._stop_and_start())

    async def _stop_and_start(self) -> None:
        client, self._up = self._client, False
        if client:
            client.stop(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION))
            await self._stopped.wait()
            await asyncio.sleep(1)
        if not self._closing:
            self.start()


def _note_failure(topic: str, done: "Future[Any]") -> None:
    if error := done.exception():
        log.debug("a publish failed", extra={"topic": topic, "error": repr(error)})
