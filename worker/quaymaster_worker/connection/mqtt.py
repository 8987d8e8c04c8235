"""One worker's MQTT 5 connection over mutual TLS. Nobody but this, `crt` and `refusals` knows awscrt.

awscrt calls back on a thread of its own; everything is handed to the event loop before it is looked at. A client of
awscrt connects once: how long to wait before the next, and at which endpoint, is decided here.
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

from awscrt import mqtt5
from quaymaster.domain.messages import Endpoint

from quaymaster_worker.connection.crt import KEEP_ALIVE, PING_TIMEOUT, Callbacks
from quaymaster_worker.connection.outage import Outage
from quaymaster_worker.connection.pacing import SHORTEST, Pace
from quaymaster_worker.connection.refusals import Refusals, may_be_about_us, refuses
from quaymaster_worker.defects import watched

CLOSE_SECONDS = 5.0
ASK_AGAIN_SECONDS = 30.0
"""Between two questions whether a failure was an alert about our certificate, once that was not so."""
_PING_LOST = "AWS_ERROR_MQTT5_PING_RESPONSE_TIMEOUT"

log = logging.getLogger("quaymaster.connection")


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


class Clients(Protocol):
    """Makes the clients: `crt.Crt`."""

    def make_client(self, endpoint: Endpoint, client_id: str, callbacks: Callbacks) -> mqtt5.Client:
        """A client that connects to this endpoint once it is started."""
        ...


class Probe(Protocol):
    """Tells whose fault it is: `tls_probe.TlsProbe`."""

    async def alert_about_us(self, endpoint: Endpoint) -> str | None:
        """The broker's TLS alert about our certificate, if that is what it answers."""
        ...


@dataclass(frozen=True, kw_only=True)
class Address:
    """Who connects where, and listens to what."""

    endpoints: Sequence[Endpoint]
    client_id: str
    topics: Sequence[str]
    give_up_after_seconds: float


class MqttConnection:
    """Connects, subscribes, and connects again, to the next endpoint when one fails.

    No client is started before the one ahead of it has stopped: two would take the client id from each other.
    """

    def __init__(
        self,
        clients: Clients,
        probe: Probe,
        address: Address,
        listener: Listener,
        clock: Callable[[], float],
        uniform: Callable[[float, float], float],
    ) -> None:
        self._clients = clients
        self._probe = probe
        self._address = address
        self._listener = listener
        self._clock = clock
        self._pace = Pace(uniform)
        self._loop = asyncio.get_running_loop()
        self._endpoint = 0
        self._client: mqtt5.Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._stopped = asyncio.Event()
        self._closed = asyncio.Event()
        self._up = False
        self._connected_at: float | None = None
        self._failure: mqtt5.LifecycleConnectFailureData | None = None
        self._ask_again_at = clock()
        self._refusals = Refusals(address.give_up_after_seconds)
        self._outage = Outage(address.client_id, clock)

    def start(self) -> None:
        """Begin to connect."""
        self._task = watched(self._loop.create_task(self._keep_connected(), name="the connection"))

    def publish(self, topic: str, payload: bytes) -> None:
        """Send with QoS 1, if connected; what matters is repeated by whoever sends it."""
        if not self._up or not self._client:
            return
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE)
        future = self._client.publish(packet)
        future.add_done_callback(partial(_note_failure, topic))

    async def close(self) -> None:
        """Disconnect in order, so that the broker does not take it for a lost connection."""
        self._closed.set()
        self._over.set()
        if self._task:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._task
            except TimeoutError:
                log.warning("the connection did not close in time")

    async def _keep_connected(self) -> None:
        while not self._closed.is_set():
            endpoint = self._address.endpoints[self._endpoint]
            await self._connect_once(endpoint)
            if failure := self._failure:
                await self._judge(failure, endpoint)
                self._endpoint = (self._endpoint + 1) % len(self._address.endpoints)
            await self._unless_closed(self._wait())

    def _wait(self) -> float:
        now = self._clock()
        wait = self._pace.next_wait(0.0 if self._connected_at is None else now - self._connected_at)
        left = self._refusals.seconds_left(now)
        # What the broker refuses is tried once more when it is time to give up, not some while later.
        return wait if left is None else max(SHORTEST, min(wait, left))

    async def _judge(self, failure: mqtt5.LifecycleConnectFailureData, endpoint: Endpoint) -> None:
        """Why no connection came about, as far as the broker says so."""
        code = failure.connack_packet.reason_code if failure.connack_packet else None
        name = getattr(failure.exception, "name", repr(failure.exception))
        self._outage.failed(name if code is None else str(code), f"{endpoint.host}:{endpoint.port}")
        if refuses(code):
            self._count_refusal(f"the broker refuses the connection ({code})")
        elif code is None and may_be_about_us(name) and self._clock() >= self._ask_again_at:
            if alert := await self._probe.alert_about_us(endpoint):
                self._count_refusal(f"the broker refuses the pool's certificate ({alert})")
            else:
                # An outage: one connection more for each attempt would not help it.
                self._ask_again_at = self._clock() + ASK_AGAIN_SECONDS

    async def _connect_once(self, endpoint: Endpoint) -> None:
        """Until this connection is over, or never came about, and its client has stopped."""
        self._over.clear()
        self._stopped.clear()
        self._connected_at = self._failure = None
        client = self._client = self._make_client(endpoint)
        client.start()
        await self._over.wait()
        self._client, self._up = None, False
        client.stop(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION))
        await self._stopped.wait()

    async def _unless_closed(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return

    def _make_client(self, endpoint: Endpoint) -> mqtt5.Client:
        tell = self._tell
        callbacks = Callbacks(
            received=lambda data: tell(self._received, data),
            succeeded=lambda data: tell(self._succeeded, data),
            failed=lambda data: tell(self._failed, data),
            lost=lambda data: tell(self._lost, data),
            stopped=lambda data: tell(self._was_stopped, data),
        )
        return self._clients.make_client(endpoint, self._address.client_id, callbacks)

    def _tell(self, what: Callable[[Any], None], data: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, data)

    # On the event loop.

    def _succeeded(self, _data: mqtt5.LifecycleConnectSuccessData) -> None:
        self._connected_at = self._clock()
        self._outage.over()
        if not self._client:
            return
        packet = mqtt5.SubscribePacket(
            subscriptions=[mqtt5.Subscription(topic, mqtt5.QoS.AT_LEAST_ONCE) for topic in self._address.topics]
        )
        future = self._client.subscribe(packet)
        future.add_done_callback(lambda done: self._tell(self._subscribed, done))

    def _subscribed(self, done: "Future[mqtt5.SubackPacket]") -> None:
        if not self._client:
            return
        error = done.exception()
        refused = [] if error else [code for code in done.result().reason_codes if code >= 128]
        if error:
            # The connection is going down, or hears nothing: the next one subscribes again.
            log.debug("subscribing failed", extra={"error": repr(error)})
        elif refused:
            self._count_refusal(f"the policy does not allow to subscribe ({refused[0]})")
        else:
            self._up = True
            self._listener.on_connected()
            return
        self._over.set()

    def _received(self, data: mqtt5.PublishReceivedData) -> None:
        self._refusals.heard()
        self._listener.on_message(bytes(data.publish_packet.payload or b""))

    def _failed(self, data: mqtt5.LifecycleConnectFailureData) -> None:
        if self._client:
            self._failure = data
            self._over.set()

    def _lost(self, data: mqtt5.LifecycleDisconnectData) -> None:
        was_up, self._up = self._up, False
        name = getattr(data.exception, "name", repr(data.exception))
        code = data.disconnect_packet.reason_code if data.disconnect_packet else None
        if not self._client or self._closed.is_set():
            return
        self._over.set()
        log.info("disconnected", extra={"error": name, "code": code, "host": self._host})
        if was_up:
            self._listener.on_disconnected(KEEP_ALIVE + PING_TIMEOUT if name == _PING_LOST else 0.0)
        if code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER:
            self._listener.on_taken_over()
        elif code == mqtt5.DisconnectReasonCode.NOT_AUTHORIZED:
            self._count_refusal("the broker ends the connection: the pool's policy does not allow what the agent does")

    def _was_stopped(self, _data: mqtt5.LifecycleStoppedData) -> None:
        self._stopped.set()

    @property
    def _host(self) -> str:
        endpoint = self._address.endpoints[self._endpoint]
        return f"{endpoint.host}:{endpoint.port}"

    def _count_refusal(self, note: str) -> None:
        if self._refusals.count(self._clock()) and not self._closed.is_set():
            self._listener.on_rejected(note)


def _note_failure(topic: str, done: "Future[Any]") -> None:
    if error := done.exception():
        log.debug("a publish failed", extra={"topic": topic, "error": repr(error)})
