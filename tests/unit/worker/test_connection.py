"""How an agent connects again: how long it waits, at which endpoint, and never twice at once."""

# awscrt brings no types.
# pyright: reportMissingTypeStubs=false

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from awscrt import mqtt5
from quaymaster.domain.messages import Endpoint
from quaymaster_worker.connection.crt import Callbacks
from quaymaster_worker.connection.mqtt import Address, MqttConnection
from quaymaster_worker.connection.pacing import LONGEST, SETTLED, SHORTEST, Pace

ENDPOINTS = (Endpoint(host="broker.example.com", port=8883), Endpoint(host="broker.example.com", port=443))


@dataclass
class Broker:
    """Makes clients as awscrt does, and says what becomes of them; `fates` are those of the next, then all connect."""

    fates: list[str] = field(default_factory=list[str])
    started: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    running: int = 0
    most_running: int = 0
    callbacks: Callbacks | None = None
    now: Callable[[], float] = lambda: 0.0

    def make_client(self, endpoint: Endpoint, client_id: str, callbacks: Callbacks) -> Any:
        """A client of this broker."""
        fate = self.fates.pop(0) if self.fates else "connects"
        self.callbacks = callbacks

        def start() -> None:
            self.started.append((self.now(), endpoint.port))
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            failure = FAILURES.get(fate)
            if failure:
                callbacks.failed(failure)
                return
            callbacks.succeeded(SimpleNamespace())  # type: ignore[arg-type]
            if fate in ENDINGS:
                self.lose(ENDINGS[fate])

        def subscribe(packet: Any) -> "Future[Any]":
            done: Future[Any] = Future()
            if fate == "hears nothing":
                done.set_exception(TimeoutError("no SUBACK"))
            else:
                done.set_result(SimpleNamespace(reason_codes=[135 if fate == "may not subscribe" else 1]))
            return done

        def stop(packet: Any) -> None:
            def ended() -> None:
                self.running -= 1
                callbacks.stopped(SimpleNamespace())  # type: ignore[arg-type]

            if fate not in FAILURES:
                self.lose()
            # It takes a while to stop.
            asyncio.get_running_loop().call_later(0.3, ended)

        return SimpleNamespace(start=start, subscribe=subscribe, stop=stop)

    def lose(self, code: mqtt5.DisconnectReasonCode | None = None) -> None:
        """The connection is down; with a code, the broker has said why."""
        assert self.callbacks
        packet = None if code is None else SimpleNamespace(reason_code=code)
        self.callbacks.lost(SimpleNamespace(exception=OSError("reset"), disconnect_packet=packet))  # type: ignore[arg-type]


def failure(name: str, code: mqtt5.ConnectReasonCode | None = None) -> Any:
    """What awscrt says of an attempt that came to nothing."""
    error = OSError(name)
    error.name = name  # type: ignore[attr-defined]
    return SimpleNamespace(exception=error, connack_packet=None if code is None else SimpleNamespace(reason_code=code))


FAILURES = {
    "fails": failure("AWS_IO_SOCKET_CONNECTION_REFUSED"),
    "is closed": failure("AWS_IO_SOCKET_CLOSED"),
    "hangs up": failure("AWS_ERROR_MQTT_UNEXPECTED_HANGUP"),
    "fails in TLS": failure("AWS_IO_TLS_ERROR_NEGOTIATION_FAILURE"),
    "stalls": failure("AWS_ERROR_MQTT_TIMEOUT"),
    "is busy": failure("AWS_ERROR_MQTT5_CONNACK_CONNECTION_REFUSED", mqtt5.ConnectReasonCode.SERVER_BUSY),
    "refuses": failure("AWS_ERROR_MQTT5_CONNACK_CONNECTION_REFUSED", mqtt5.ConnectReasonCode.NOT_AUTHORIZED),
}
ENDINGS = {
    "ends at once": None,
    "forbids": mqtt5.DisconnectReasonCode.NOT_AUTHORIZED,
}
OUTAGES = [*(fate for fate in FAILURES if fate != "refuses"), "ends at once", "hears nothing"]


@dataclass
class Witness:
    """Whether the broker shows an alert about our certificate."""

    alert: str | None = None
    asked: int = 0

    async def alert_about_us(self, endpoint: Endpoint) -> str | None:
        """As it was told."""
        self.asked += 1
        return self.alert


@dataclass
class Heard:
    """A listener that remembers."""

    events: list[str] = field(default_factory=list[str])
    now: Callable[[], float] = lambda: 0.0
    rejected_at: float | None = None

    def on_connected(self) -> None:
        """Connected."""
        self.events.append("connected")

    def on_disconnected(self, unreachable_seconds: float) -> None:
        """Not any more."""
        self.events.append("disconnected")

    def on_message(self, payload: bytes) -> None:
        """A message."""

    def on_rejected(self, note: str) -> None:
        """For good."""
        self.events.append(f"rejected: {note}")
        self.rejected_at = self.rejected_at or self.now()

    def on_taken_over(self) -> None:
        """By another."""
        self.events.append("taken over")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes at once when there is nothing to do."""

    _virtual = 0.0

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual

    def _run_once(self) -> None:
        inner = cast("Any", self)
        if not inner._ready and inner._scheduled:
            self._virtual = max(self._virtual, inner._scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]


def connected(
    broker: Broker, story: Callable[[MqttConnection], Any], witness: Witness | None = None, **address: Any
) -> Heard:
    """Run a story with a connection to this broker; what its listener heard."""
    heard = Heard(now=lambda: broker.now())

    async def tell() -> None:
        loop = asyncio.get_running_loop()
        broker.now = loop.time
        found = Address(endpoints=ENDPOINTS, client_id="me", topics=["t"], **{"give_up_after_seconds": 120.0} | address)
        connection = MqttConnection(broker, witness or Witness(), found, heard, loop.time, random.Random(1).uniform)
        connection.start()
        await story(connection)
        await connection.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(tell())
    return heard


def waits(broker: Broker) -> list[float]:
    return [later - earlier for (earlier, _), (later, _) in zip(broker.started, broker.started[1:], strict=False)]


async def an_hour(_connection: MqttConnection) -> None:
    await asyncio.sleep(3600)


def test_a_client_id_connects_at_most_once_a_second_and_at_least_every_half_minute() -> None:
    broker = Broker(fates=["fails"] * 1000)
    connected(broker, an_hour)
    assert len(broker.started) > 100
    assert min(waits(broker)) >= SHORTEST
    assert max(waits(broker)) <= LONGEST + 0.5
    assert waits(broker)[0] <= 3 * SHORTEST + 0.5


def test_one_client_ends_before_the_next_begins() -> None:
    broker = Broker(fates=["fails", "fails", "may not subscribe", "hears nothing"] * 50)
    connected(broker, an_hour)
    assert len(broker.started) > 100
    assert broker.most_running == 1
    assert broker.running == 0


def test_a_failure_leads_to_the_next_endpoint_and_a_loss_to_the_same() -> None:
    broker = Broker(fates=["fails"])

    async def lose_once(_connection: MqttConnection) -> None:
        await asyncio.sleep(60)
        broker.lose()
        await asyncio.sleep(60)

    heard = connected(broker, lose_once)
    assert [port for _, port in broker.started] == [8883, 443, 443]
    assert heard.events == ["connected", "disconnected", "connected"]


def test_a_connection_that_hears_nothing_is_made_anew() -> None:
    heard = connected(Broker(fates=["hears nothing"]), an_hour)
    assert heard.events == ["connected"]


def test_a_policy_that_allows_no_subscription_is_tried_until_the_worker_gives_up() -> None:
    broker = Broker(fates=["may not subscribe"] * 1000)
    heard = connected(broker, an_hour, give_up_after_seconds=60.0)
    assert heard.events[0] == "rejected: the policy does not allow to subscribe (135)"
    assert "connected" not in heard.events


@pytest.mark.parametrize("fate", OUTAGES)
def test_no_outage_is_taken_for_a_refusal_however_long_it_lasts(fate: str, caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker(fates=[fate] * 10_000)
    caplog.set_level("INFO", logger="quaymaster.connection")
    heard = connected(broker, an_hour)
    assert not [event for event in heard.events if event.startswith("rejected")]
    assert len(broker.started) > 100
    if fate in FAILURES:
        # Said when it begins, and once a minute.
        said = [record for record in caplog.records if record.message.startswith("cannot connect")]
        assert 50 <= len(said) <= 61


@pytest.mark.parametrize(
    ("fate", "alert", "note"),
    [
        ("refuses", None, "the broker refuses the connection"),
        ("fails in TLS", "unknown CA", "the broker refuses the pool's certificate (unknown CA)"),
        ("is closed", "certificate revoked", "the broker refuses the pool's certificate (certificate revoked)"),
        ("forbids", None, "the broker ends the connection: the pool's policy does not allow"),
        ("may not subscribe", None, "the policy does not allow to subscribe"),
    ],
)
@pytest.mark.parametrize("seconds", [1.0, 120.0])
def test_what_the_broker_refuses_ends_the_agent_within_seconds_of_its_patience(
    fate: str, alert: str | None, note: str, seconds: float
) -> None:
    heard = connected(Broker(fates=[fate] * 10_000), an_hour, Witness(alert), give_up_after_seconds=seconds)
    (first, *_) = [event for event in heard.events if event.startswith("rejected")]
    assert note in first
    assert heard.rejected_at is not None
    assert seconds <= heard.rejected_at <= seconds + 5


def test_during_an_outage_it_is_asked_about_an_alert_twice_a_minute_at_most() -> None:
    witness = Witness()
    connected(Broker(fates=["is closed"] * 1000), an_hour, witness)
    assert 60 <= witness.asked <= 121


def test_an_alert_is_asked_for_only_where_there_may_be_one() -> None:
    witness = Witness()
    connected(Broker(fates=["fails", "stalls", "is busy", "refuses"] * 1000), an_hour, witness)
    assert witness.asked == 0


@pytest.mark.parametrize("fate", ["fails", "connects", "may not subscribe"])
def test_closing_takes_as_long_as_the_client_takes_to_stop(fate: str) -> None:
    broker = Broker(fates=[fate] * 20)

    async def half_a_minute(_connection: MqttConnection) -> None:
        await asyncio.sleep(30)

    connected(broker, half_a_minute)
    assert broker.running == 0


def test_waits_grow_differ_and_begin_anew_after_a_connection_that_held() -> None:
    pace = Pace(lambda least, most: most)
    assert [pace.next_wait(0) for _ in range(6)] == [3, 9, 27, LONGEST, LONGEST, LONGEST]
    assert pace.next_wait(SETTLED - 1) == LONGEST
    assert pace.next_wait(SETTLED) == 3
    drawn = Pace(random.Random(1).uniform)
    assert len({drawn.next_wait(0) for _ in range(100)}) > 50
