"""Both clocks of the lease against each other: whatever the network does, no run is given up while its command lives.

The agent's side is its own: the state machine, and the store behind presigned URLs, whose answers are the test's. The
control plane's side is the shipped use cases. Time is virtual, a second a step.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quaymaster.domain import ids, objects
from quaymaster.domain.messages import FromAgent, PostGrant
from quaymaster.domain.states import RunState
from quaymaster_worker.connection.uploads import PresignedStore
from quaymaster_worker.errors import UploadError
from quaymaster_worker.protocol.state.held import Identity

from tests.shared.memory.world import NAMESPACE, World
from tests.simulation.real_agent import RealAgent

CHUNK_EVERY, RETRY_AFTER, SWEEP_EVERY = 30, 7, 60
LEASE = timedelta(seconds=90)


class StoreIs(StrEnum):
    """What becomes of an upload."""

    STORING = "storing"
    FORBIDDING = "forbidding"
    BROKEN = "broken"
    AWAY = "away"


@dataclass(frozen=True)
class Weather:
    """How the network is for so many seconds; the broker tells of a lost connection after a delay."""

    seconds: int
    broker: bool
    store: StoreIs
    told_after: int = 5


class Host:
    """One agent whose command writes for ever, and its network."""

    def __init__(self) -> None:
        self.world = World(lease=LEASE, stop_grace=timedelta(seconds=5), lost_slack=timedelta(seconds=60))
        self.broker, self.store = True, StoreIs.STORING
        self._chunks, self._upload_at = 0, 0.0
        self._presence: list[tuple[datetime, datetime]] = []
        worker_id = ids.worker_id(NAMESPACE, self.world.pool.id, "00000001")
        self.agent = RealAgent(
            self.world, Identity(worker_id=worker_id, session="s1", agent_version="1"), self._say, ()
        )
        transport = httpx.MockTransport(self._answer)
        self._client = httpx.AsyncClient(transport=transport)
        self._store = PresignedStore(lambda: self._client, self._clock, self.agent.stored)

    def _clock(self) -> float:
        return self.world.now.timestamp()

    def _say(self, event: str, message: FromAgent) -> None:
        if self.broker:
            self.world.hear(self.agent.worker_id, event, message)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        match self.store:
            case StoreIs.STORING:
                self._chunks += 1
                held = self.agent.held
                assert held
                key = objects.chunk_prefix(self.world.pool.id, held.run, held.attempt)
                self.world.blobs.write(key + objects.chunk_name(self._chunks), b"a chunk")
                return httpx.Response(204)
            case StoreIs.FORBIDDING:
                return httpx.Response(403)
            case StoreIs.BROKEN:
                return httpx.Response(503)
            case StoreIs.AWAY:
                raise httpx.ConnectError("away", request=request)

    def begin(self) -> None:
        """A retryable run begins, with all well."""
        self.agent.register()
        self._exchange()
        self.world.submit("r1", retryable=True, log_timeout="2h", run_timeout="2h")
        self._exchange()
        self.agent.prepare()
        self._exchange()
        assert self.lives

    @property
    def lives(self) -> bool:
        """Whether the command of the first attempt lives."""
        held = self.agent.held
        return held is not None and (held.attempt, held.stage) == (1, "running")

    def pass_second(self, number: int) -> None:
        """A second passes."""
        self.world.wait(1)
        self.agent.repeat()
        if self.lives and self._clock() >= self._upload_at:
            self._upload()
        for entry in [entry for entry in self._presence if entry[0] <= self.world.now]:
            self._presence.remove(entry)
            self.world.disconnect(self.agent.worker_id, entry[1])
        self._exchange()
        self.world.ring()
        if number % SWEEP_EVERY == 0:
            self.world.sweep()
        self._exchange()

    def change(self, weather: Weather) -> None:
        """The network becomes another."""
        self.store = weather.store
        if self.broker and not weather.broker:
            self.broker = False
            self.agent.lose_connection()
            self._presence.append((self.world.now + timedelta(seconds=weather.told_after), self.world.now))
        elif weather.broker and not self.broker:
            self.broker = True
            self.agent.register()

    def _upload(self) -> None:
        grant = PostGrant(url="https://store", fields={}, key_prefix="chunks/", max_bytes=1 << 20)
        try:
            asyncio.run(self._store.post(grant, "one", b"x"))
            self._upload_at = self._clock() + CHUNK_EVERY
        except UploadError:
            self._upload_at = self._clock() + RETRY_AFTER

    def _exchange(self) -> None:
        """What the control plane sends gets there, or is lost."""
        for _ in range(20):
            sent = self.world.messenger.take(self.agent.worker_id)
            if not sent:
                return
            if self.broker:
                self.agent.take(sent)


seconds = st.integers(5, 400)
weathers = st.lists(
    st.builds(Weather, seconds, st.booleans(), st.sampled_from(StoreIs), st.integers(0, 60)), min_size=1, max_size=6
)


@settings(max_examples=60)
@given(weathers)
@example([Weather(600, broker=False, store=StoreIs.FORBIDDING)])
@example([Weather(600, broker=False, store=StoreIs.BROKEN)])
@example([Weather(60, broker=False, store=StoreIs.STORING), Weather(600, broker=False, store=StoreIs.FORBIDDING)])
def test_no_run_is_given_up_while_its_command_lives(weather: Sequence[Weather]) -> None:
    host = Host()
    host.begin()
    number = 0
    for part in weather:
        host.change(part)
        for _ in range(part.seconds):
            number += 1
            host.pass_second(number)
            run = host.world.run("r1")
            if host.lives:
                assert (run.state, run.attempt) == (RunState.RUNNING, 1), f"{run.reason} after {number} s"


@given(st.sampled_from([StoreIs.FORBIDDING, StoreIs.BROKEN, StoreIs.AWAY]))
def test_a_command_that_nobody_can_know_of_is_killed_and_its_run_offered_again(store: StoreIs) -> None:
    host = Host()
    host.begin()
    host.change(Weather(0, broker=False, store=store))
    for number in range(1, 600):
        host.pass_second(number)
    assert not host.lives
    assert host.world.run("r1").state is RunState.READY


def test_uploads_that_are_stored_keep_a_command_alive_without_a_broker() -> None:
    host = Host()
    host.begin()
    host.change(Weather(0, broker=False, store=StoreIs.STORING))
    for number in range(1, 600):
        host.pass_second(number)
    assert host.lives
    assert host.world.run("r1").state is RunState.RUNNING
