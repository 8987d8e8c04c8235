"""The pool's key and certificate request: what `pool create` makes and an agent is later given."""

import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

KEY_BITS = 4096
LEAST_BITS = 2048
COMMON_NAME = "quaymaster pool"


def make_key(path: Path) -> bytes:
    """Make an RSA-4096 key, write it as PKCS8 PEM with mode 0600, and return the PEM.

    Raises FileExistsError when the file is there already: a pool's key is never overwritten.
    """
    pem = generate_key()
    write_secret(path, pem)
    return pem


def generate_key() -> bytes:
    """An RSA-4096 key as PKCS8 PEM, kept nowhere."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read. Raises FileExistsError; leaves no half-written file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def read_key(pem: bytes) -> rsa.RSAPrivateKey:
    """Read an unencrypted RSA key of at least 2048 bits. Raises ValueError, which never repeats the key."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"not an unencrypted private key in PEM ({type(error).__name__})") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("a pool's key is an RSA key")
    if key.key_size < LEAST_BITS:
        raise ValueError(f"an RSA key of {key.key_size} bits; allowed: {LEAST_BITS} or more")
    return key


def make_csr(key_pem: bytes) -> str:
    """The certificate request for a key, as PEM. Raises ValueError for a key that is not one."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, COMMON_NAME)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(read_key(key_pem), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def read_csr(pem: str) -> str:
    """Check a certificate request: readable, its own signature right, RSA of at least 2048 bits.

    Returns it as PEM, free of anything around it. Raises ValueError.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode())
    except ValueError:
        raise ValueError("not a certificate request in PEM") from None
    key = request.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < LEAST_BITS:
        raise ValueError(f"a pool's key is an RSA key of {LEAST_BITS} bits or more")
    if not request.is_signature_valid:
        raise ValueError("the certificate request is not signed with its own key")
    return request.public_bytes(serialization.Encoding.PEM).decode()
