"""Certificate, key and CA, tried before anything is connected: each that is wrong is refused by its variable.

Python's TLS is asked, because it says what is wrong; awscrt has one error for all of it.
"""

import os
import ssl
from collections.abc import Generator
from contextlib import contextmanager

from quaymaster.domain.messages import PoolToken

from quaymaster_worker.errors import ConfigurationRefused

TOKEN = "QUAYMASTER_TOKEN"
KEY = "QUAYMASTER_POOL_PRIVATE_KEY"


def check_credentials(token: PoolToken, private_key: bytes) -> None:
    """Raises ConfigurationRefused for what cannot be used, and for a key that is not the certificate's."""
    for name, pem in (("certificate", token.certificate), ("CA", token.ca)):
        if pem is not None and not _is_certificate(pem):
            raise ConfigurationRefused(TOKEN, f"a {name} that cannot be read", f"a {name} in PEM, whole")
    try:
        context_for(token, private_key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            found = "a private key that does not belong to the token's certificate"
            raise ConfigurationRefused(KEY, found, "the key that this pool was created with") from None
        raise ConfigurationRefused(
            KEY, "a private key that cannot be read", "an unencrypted key in PEM, whole"
        ) from None


def context_for(token: PoolToken, private_key: bytes) -> ssl.SSLContext:
    """TLS as the agent connects: it shows the pool's certificate, and trusts the token's CA. Raises ssl.SSLError."""
    context = ssl.create_default_context(cadata=token.ca)
    # As awscrt judges: certificates without some extensions are no less trusted.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with _in_memory(token.certificate.encode()) as certificate, _in_memory(private_key) as key:
        context.load_cert_chain(certificate, key)
    return context


def _is_certificate(pem: str) -> bool:
    if not pem.strip():
        return False
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError):
        return False
    return True


@contextmanager
def _in_memory(content: bytes) -> Generator[str]:
    """A path to the content, which is on no disk: OpenSSL reads certificate and key from files only."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
