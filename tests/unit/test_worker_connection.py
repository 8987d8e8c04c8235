"""How an agent connects again: how long it waits, at which endpoint, and never twice at once."""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from longshore.domain.messages import Endpoint
from longshore_worker.connection import Address, MqttConnection
from longshore_worker.crt import Callbacks
from longshore_worker.pacing import LONGEST, SETTLED, SHORTEST, Pace

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
            if fate == "fails":
                callbacks.failed(SimpleNamespace(exception=OSError("no route"), connack_packet=None))  # type: ignore[arg-type]
            else:
                callbacks.succeeded(SimpleNamespace())  # type: ignore[arg-type]

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

            if fate != "fails":
                self.lose()
            # It takes a while to stop.
            asyncio.get_running_loop().call_later(0.3, ended)

        return SimpleNamespace(start=start, subscribe=subscribe, stop=stop)

    def lose(self) -> None:
        """The connection is down."""
        assert self.callbacks
        self.callbacks.lost(SimpleNamespace(exception=OSError("reset"), disconnect_packet=None))  # type: ignore[arg-type]


@dataclass
class Heard:
    """A listener that remembers."""

    events: list[str] = field(default_factory=list[str])

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


def connected(broker: Broker, story: Callable[[MqttConnection], Any], **address: Any) -> Heard:
    """Run a story with a connection to this broker; what its listener heard."""
    heard = Heard()

    async def tell() -> None:
        loop = asyncio.get_running_loop()
        broker.now = loop.time
        found = Address(endpoints=ENDPOINTS, client_id="me", topics=["t"], **{"give_up_after_seconds": 120.0} | address)
        connection = MqttConnection(broker, found, heard, loop.time, random.Random(1).uniform)
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
