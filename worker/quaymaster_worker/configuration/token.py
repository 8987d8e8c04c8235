"""The agent's two credentials, as they come in environment variables and files."""

import base64
import binascii
import re

from pydantic import ValidationError
from quaymaster.domain.messages import PoolToken

_PEM_KEY = re.compile(rb"-----BEGIN (?:RSA |EC )?PRIVATE KEY-----.+-----END (?:RSA |EC )?PRIVATE KEY-----", re.DOTALL)


def decode_token(text: str) -> PoolToken:
    """Read a pool token: JSON, or base64 of it. Raises ValueError, which never repeats the token."""
    plain = text.strip()
    payload = plain.encode() if plain.startswith("{") else _from_base64(plain)
    try:
        token = PoolToken.model_validate_json(payload)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) or "the whole" for e in error.errors(include_input=False))
        raise ValueError(f"not a pool token (wrong: {fields})") from None
    return token.model_copy(update={"certificate": _lines(token.certificate), "ca": token.ca and _lines(token.ca)})


def decode_key(text: str) -> bytes:
    """Read a private key: PEM, or base64 of it. Raises ValueError, which never repeats the key."""
    plain = text.strip()
    pem = _lines(plain).encode() if plain.startswith("-----") else _from_base64(plain)
    if not _PEM_KEY.search(pem):
        raise ValueError("not an unencrypted private key in PEM")
    return pem.strip() + b"\n"


def _lines(pem: str) -> str:
    """A PEM with its lines: many ways to set a variable leave a backslash and an `n` where they end."""
    return pem.replace("\\n", "\n")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        raise ValueError("neither the plain form nor base64 of it") from None
