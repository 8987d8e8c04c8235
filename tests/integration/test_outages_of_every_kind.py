"""Two agents, one idle and one with a phase, through everything that a network does: both still work."""

import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from quaymaster.domain import messages as m
from quaymaster_worker.errors import ExitCode

from tests.integration.agent_lab import Lab
from tests.integration.control_plane import Terms
from tests.integration.proxy import Mode, Proxy
from tests.shared.passage import let_others_pass
from tests.shared.tls_parties import CA, party

pytestmark = pytest.mark.local

GIVE_UP_AFTER = 2.0
"""A minute is one second here: two minutes of refusals end an agent, and the broker is away for five."""
AWAY = 5 * GIVE_UP_AFTER / 2 + 1
TRIES = 2
"""So many connections of each agent meet each kind of outage, at least."""


@pytest.fixture
def proxy(lab: Lab, tmp_path: Path) -> Iterator[Proxy]:
    """The way to the lab's broker."""
    tomorrow = party("localhost", CA, begins=1)
    (tmp_path / "cert").write_bytes(tomorrow.pem)
    (tmp_path / "key").write_bytes(tomorrow.key_pem)
    early = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    early.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    made = Proxy(lab.mqtt_port, early)
    yield made
    made.cut()


def test_two_agents_go_through_every_outage_and_both_still_work(lab: Lab, proxy: Proxy, tmp_path: Path) -> None:
    token = lab.token(port=proxy.port, also_trusted=CA.pem.decode())
    options = {"QUAYMASTER_TOKEN": token, "QUAYMASTER_GIVE_UP_AFTER": f"{GIVE_UP_AFTER:.0f}s"}
    idle, busy = (lab.start_welcomed(terms=Terms(lease=600), **options) for _ in range(2))
    over = tmp_path / "over"
    let_others_pass(tmp_path)
    lab.begin(busy, "THROUGH", ["sh", "-c", f"while [ ! -e {over} ]; do echo on; sleep 0.5; done; echo over"])
    for mode in (Mode.CLOSE, Mode.RESET, Mode.STALL, Mode.EARLY):
        proxy.become(mode)
        began = time.monotonic()
        # A stall is noticed only when a connection has had its time to come about.
        enough = 2 if mode is Mode.STALL else 2 * TRIES
        while proxy.met[mode] < enough or time.monotonic() - began < AWAY:
            assert time.monotonic() - began < 120, f"{mode}: {proxy.met}"
            time.sleep(0.1)
        assert idle.process.poll() is None, mode
        assert busy.process.poll() is None, mode
    proxy.cut()
    time.sleep(AWAY)
    after = lab.control.count
    proxy.mend()
    for agent in (idle, busy):
        lab.control.wait(m.Registered, lambda one, s=agent.session: one.session == s, after=after, seconds=120)
    lab.begin(idle, "AFTERWARDS", ["echo", "still here"])
    over.touch()
    assert lab.finish("AFTERWARDS").outcome.end == "FINISHED"
    assert lab.finish("THROUGH").outcome.end == "FINISHED"
    assert lab.log_of("THROUGH")[-1] == ("output", "over")
    for agent in (idle, busy):
        agent.process.send_signal(signal.SIGTERM)
        assert agent.wait() == ExitCode.GOODBYE
