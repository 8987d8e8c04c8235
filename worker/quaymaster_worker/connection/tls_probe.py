"""Whether the broker refuses our certificate: asked by Python's own TLS, which tells whose alert it was.

awscrt has one error for an alert about our certificate, for a broker whose certificate we do not trust (yet: the clock
may be wrong at boot), and for a connection that something between us and the broker has cut.
"""

import asyncio
import socket
import ssl
from contextlib import suppress

from quaymaster.domain.messages import Endpoint, PoolToken

from quaymaster_worker.connection.credentials import context_for

SECONDS = 5.0
ALERT_SECONDS = 2.0
"""TLS 1.3 tells of a refused certificate after the handshake: so long it is listened for."""

# RFC 8446, 6.2, by OpenSSL's names; alerts that are about the certificate which we have shown.
_ABOUT_OURS = {
    "SSLV3_ALERT_BAD_CERTIFICATE": "bad certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "unsupported certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "certificate revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "certificate expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "certificate unknown",
    "TLSV1_ALERT_UNKNOWN_CA": "unknown CA",
    "TLSV1_ALERT_ACCESS_DENIED": "access denied",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "certificate required",
}


class TlsProbe:
    """Asks as the agent would connect."""

    def __init__(self, token: PoolToken, private_key: bytes) -> None:
        self._token = token
        self._private_key = private_key

    async def alert_about_us(self, endpoint: Endpoint) -> str | None:
        """The broker's alert about our certificate, in words; None for anything else, an outage included."""
        return await asyncio.to_thread(self._ask, endpoint)

    async def trouble(self, endpoint: Endpoint) -> str | None:
        """What stands against connecting there, in words; None if nothing does."""
        return await asyncio.to_thread(self._trouble, endpoint)

    def _trouble(self, endpoint: Endpoint) -> str | None:
        try:
            self._shake_hands(endpoint)
        except ssl.SSLError as error:
            about = _ABOUT_OURS.get(error.reason or "")
            return f"the broker refuses the certificate: {about}" if about else f"TLS: {error.reason or error}"
        except OSError as error:
            return error.strerror or str(error) or "no answer"
        return None

    def _ask(self, endpoint: Endpoint) -> str | None:
        try:
            self._shake_hands(endpoint)
        except ssl.SSLError as error:
            return _ABOUT_OURS.get(error.reason or "")
        except OSError:
            return None
        return None

    def _shake_hands(self, endpoint: Endpoint) -> None:
        """Connect, show the certificate, and listen for an alert. Raises ssl.SSLError, OSError."""
        context = context_for(self._token, self._private_key)
        with (
            socket.create_connection((endpoint.host, endpoint.port), timeout=SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host) as secured,
        ):
            secured.settimeout(ALERT_SECONDS)
            with suppress(TimeoutError):
                # Silence is as it should be: a broker waits for us to speak.
                secured.recv(1)
