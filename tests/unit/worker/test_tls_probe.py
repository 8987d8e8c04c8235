"""Whose alert it was: asked of real TLS servers."""

import asyncio
import socket
import ssl
import threading
from pathlib import Path

import pytest
from quaymaster.domain.messages import Endpoint, PoolToken
from quaymaster_worker.connection.tls_probe import TlsProbe

from tests.shared.tls_parties import BROKER, CA, OURS, Party, broker, party


def asked(endpoint: Endpoint, us: Party) -> str | None:
    token = PoolToken(namespace="ns", pool_id="P", mqtt=[endpoint], certificate=us.pem.decode(), ca=CA.pem.decode())
    return asyncio.run(TlsProbe(token, us.key_pem).alert_about_us(endpoint))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize(
    ("us", "shown", "alert"),
    [
        (OURS, BROKER, None),
        (party("stranger"), BROKER, "unknown CA"),
        (party("pool", CA, begins=-9, ends=-1), BROKER, "certificate expired"),
        (OURS, party("localhost", CA, begins=5), None),
        (OURS, party("localhost"), None),
    ],
    ids=["let in", "of another CA", "expired", "a broker that is not valid yet", "a broker that we do not trust"],
)
def test_only_an_alert_about_our_certificate_is_one(
    tmp_path: Path, version: ssl.TLSVersion, us: Party, shown: Party, alert: str | None
) -> None:
    with broker(tmp_path, shown, version) as endpoint:
        assert asked(endpoint, us) == alert


def test_a_port_that_is_closed_or_no_tls_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        closing = threading.Thread(target=lambda: listener.accept()[0].close())
        closing.start()
        assert asked(Endpoint(host="localhost", port=port), OURS) is None
        closing.join()
    assert asked(Endpoint(host="localhost", port=port), OURS) is None
