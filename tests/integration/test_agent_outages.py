"""Agents whose broker or store cannot be reached, and what an agent costs while it waits."""

import json
import signal
import ssl
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from quaymaster.domain import messages as m
from quaymaster.domain.states import Reason
from quaymaster_worker.processes.marks import Mark, marked

from tests.integration.agent_lab import AgentUnderTest, Lab
from tests.integration.control_plane import Terms
from tests.integration.proxy import Proxy
from tests.shared.tls_parties import BROKER, CA, OURS
from tests.shared.tls_parties import broker as broker_that

pytestmark = pytest.mark.local
CONNECT = b"\x10"
"""The first byte of that packet (MQTT 5, 2.1)."""


@pytest.fixture
def broker(lab: Lab) -> Iterator[Proxy]:
    proxy = Proxy(lab.mqtt_port)
    yield proxy
    proxy.cut()


@pytest.fixture
def store(lab: Lab) -> Iterator[Proxy]:
    proxy = Proxy(lab.http_port)
    yield proxy
    proxy.cut()


def begun(
    lab: Lab, run: str, script: str, broker: Proxy, *, store: Proxy | None = None, lease: float = 180
) -> AgentUnderTest:
    """An agent whose phase has surely begun: the first chunk of its log is there."""
    agent = lab.start_welcomed(terms=Terms(lease=lease), QUAYMASTER_TOKEN=lab.token(port=broker.port))
    lab.begin(agent, run, ["sh", "-c", script], store=store.port if store else None)
    lab.wait_for_chunks(run)
    return agent


def reconnected(lab: Lab, agent: AgentUnderTest, after: int) -> m.Registered:
    _, registered = lab.control.wait(m.Registered, lambda r: r.session == agent.session, after=after, seconds=120)
    return registered


def test_a_broker_that_comes_back_finds_the_phase_running_and_its_log_complete(lab: Lab, broker: Proxy) -> None:
    agent = begun(lab, "OUTAGE", "for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 1; done", broker)
    broker.cut()
    agent.wait_for_line(msg="disconnected")
    after = lab.control.count
    broker.mend()
    registered = reconnected(lab, agent, after)
    assert registered.holding is not None
    assert registered.holding.run == "OUTAGE"
    report = lab.finish("OUTAGE")
    assert (report.outcome.end, report.log.complete) == ("FINISHED", True)


def test_the_lease_holds_while_the_store_answers(lab: Lab, broker: Proxy) -> None:
    """The broker is away for longer than the lease; what the lease counts is uploads that were stored."""
    agent = begun(lab, "LEASED", "for i in $(seq 30); do echo $i; sleep 1; done", broker, lease=10)
    lab.send(agent, m.Watch(session=agent.session, run="LEASED", attempt=1, for_seconds=120))
    lab.wait_for_chunks("LEASED")
    broker.cut()
    cut_at = time.monotonic()
    time.sleep(15)
    after = lab.control.count
    broker.mend()
    reconnected(lab, agent, after)
    assert time.monotonic() - cut_at > 10
    assert lab.finish("LEASED").outcome.end == "FINISHED"


def test_the_lease_ends_what_can_reach_nobody(lab: Lab, broker: Proxy, store: Proxy) -> None:
    agent = begun(lab, "CUTOFF", "while :; do echo tick; sleep 0.2; done", broker, store=store, lease=3)
    broker.cut()
    store.cut()
    cut_at = time.monotonic()
    while marked(Mark("CUTOFF", 1)):
        assert time.monotonic() < cut_at + 60
        time.sleep(0.05)
    assert time.monotonic() >= cut_at + 2
    after = lab.control.count
    store.mend()
    broker.mend()
    reconnected(lab, agent, after)
    report = lab.finish("CUTOFF")
    assert (report.outcome.end, report.outcome.reason) == ("FAILED", Reason.WORKER_LOST)
    assert report.log.complete
    # What the command had written before it was killed may be read behind the line that says why.
    assert [text for stream, text in lab.log_of("CUTOFF") if stream == "agent" and "(lease)" in text]


def test_uploads_that_fail_are_told_and_nothing_of_the_log_is_lost(lab: Lab, broker: Proxy, store: Proxy) -> None:
    script = "for i in $(seq 60); do echo $i; sleep 0.5; done"
    begun(lab, "UNSHIPPED", script, broker, store=store)
    store.cut()
    lab.control.wait(m.Renew, lambda renew: renew.run == "UNSHIPPED" and renew.uploads == "failing", seconds=90)
    store.mend()
    assert lab.finish("UNSHIPPED").log.complete
    expected = [("output", str(number)) for number in range(1, 61)]
    assert lab.log_of("UNSHIPPED") == lab.chunks_of("UNSHIPPED") == expected


def test_an_agent_knocks_at_most_once_a_second_and_again_and_again(lab: Lab, tmp_path: Path) -> None:
    """IoT Core takes one CONNECT a second of a client id; awscrt's own pauses would be the longest at once."""
    knocks: list[float] = []

    def heard(data: bytes) -> None:
        # Before it is closed: the agent begins to wait when it hears of that. Who only looks for an alert says nothing.
        if data.startswith(CONNECT):
            knocks.append(time.monotonic())

    with broker_that(tmp_path, BROKER, ssl.TLSVersion.TLSv1_2, heard) as endpoint:
        token = m.PoolToken(
            namespace="quaymaster",
            pool_id=lab.pool,
            mqtt=[endpoint],
            certificate=OURS.pem.decode(),
            ca=CA.pem.decode(),
        )
        lab.start(QUAYMASTER_TOKEN=json.dumps(token.dump()), QUAYMASTER_POOL_PRIVATE_KEY=OURS.key_pem.decode())
        deadline = time.monotonic() + 60
        while len(knocks) < 4:
            assert time.monotonic() < deadline, knocks
            time.sleep(0.05)
    assert min(later - earlier for earlier, later in pairwise(knocks)) >= 1


def test_the_next_endpoint_is_tried_when_one_stays_down(lab: Lab) -> None:
    dead = Proxy(lab.mqtt_port)
    dead.cut()
    token = lab.token(first_endpoints=[m.Endpoint(host="localhost", port=dead.port)])
    lab.start_welcomed(QUAYMASTER_TOKEN=token)


def test_an_idle_agent_is_small_and_quiet(lab: Lab) -> None:
    """Less than 60 MB for the first worker, 1 MB for each further, and no CPU to speak of."""
    sizes = {count: idle_megabytes(lab, count) for count in (1, 21)}
    assert sizes[1] < 60
    assert (sizes[21] - sizes[1]) / 20 < 1


def idle_megabytes(lab: Lab, count: int) -> float:
    state = str(lab.folder / f"state-{count}")
    agent = lab.start("--count", str(count), QUAYMASTER_DEBUG="false", QUAYMASTER_STATE_DIR=state)
    lab.crew(agent, count)
    process = psutil.Process(agent.process.pid)
    until_quiet(process)
    connections = process.net_connections(kind="inet")
    assert len(connections) == count
    assert all(connection.status != psutil.CONN_LISTEN for connection in connections)
    megabytes = process.memory_info().rss / 1e6
    agent.process.send_signal(signal.SIGTERM)
    assert agent.wait() == 0
    return megabytes


def until_quiet(process: psutil.Process) -> None:
    """Wait for five seconds in a row in which the process hardly uses its CPU, once it has started."""
    deadline = time.monotonic() + 90
    while True:
        before = process.cpu_times()
        time.sleep(5)
        after = process.cpu_times()
        if after.user + after.system - before.user - before.system < 0.15:
            return
        assert time.monotonic() < deadline, "an idle agent is never quiet"
