"""Sealing to a pool's key, in the age format: whoever has the private key opens it, and nobody else."""

from importlib import import_module
from typing import Any

from cryptography.hazmat.primitives import serialization

from quaymaster_sealing.keys import read_key


def seal(plain: bytes, key_pem: bytes) -> bytes:
    """Seal to the public half of a pool's RSA key. Raises ValueError for another key."""
    public = read_key(key_pem).public_key()
    line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    age = _age()
    return age.encrypt(plain, [age.ssh.Recipient.from_str(line.decode())])


def unseal(sealed: bytes, key_pem: bytes) -> bytes:
    """Open what was sealed to this key. Raises ValueError for what was not, or is not whole."""
    private = read_key(key_pem).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    age = _age()
    try:
        return age.decrypt(sealed, [age.ssh.Identity.from_buffer(private)])
    except age.DecryptError as error:
        raise ValueError(f"not sealed to this key, or not whole ({error})") from None


def _age() -> Any:
    """Imported where it is needed: most agents never seal."""
    return import_module("pyrage")
