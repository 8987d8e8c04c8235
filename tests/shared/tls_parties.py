"""A CA, whom it has certified, and a TLS server that wants such a certificate and says so as TLS does."""

import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from quaymaster.domain.messages import Endpoint

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Party:
    """A key and its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def party(name: str, issuer: Party | None = None, *, begins: float = -1, ends: float = 10) -> Party:
    """Somebody whom the issuer (or they themselves) have certified, valid from and to so many days from now."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=begins))
        .not_valid_after(NOW + timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    return Party(key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))


CA = party("ca")
BROKER = party("localhost", CA)
OURS = party("pool", CA)


@contextmanager
def broker(
    folder: Path, shown: Party, version: ssl.TLSVersion, heard: Callable[[bytes], object] | None = None
) -> Generator[Endpoint]:
    """A server that asks for a certificate of the CA's, and closes what it has let in, once it was `heard`."""
    for name, content in (("ca", CA.pem), ("cert", shown.pem), ("key", shown.key_pem)):
        (folder / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    context.load_verify_locations(folder / "ca")
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as secured:
                if heard:
                    heard(secured.recv(1024))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield Endpoint(host="localhost", port=listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
