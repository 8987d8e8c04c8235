"""Finding what a workspace must never carry: a pool's private key or its token."""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from quaymaster.domain.messages import PoolToken

KEY_FILE, TOKEN_FILE = "QUAYMASTER_POOL_PRIVATE_KEY_FILE", "QUAYMASTER_TOKEN_FILE"
KEY, TOKEN = "a private key", "a pool's token"
LARGEST = 1 << 20
"""Bytes of a file that is still looked into; keys and tokens have a few thousand."""
# Unencrypted, as an agent needs it, its lines ended in any way; as long as that of RSA-2048 at least, which pools need.
_KEY = re.compile(rb"-----BEGIN (?:RSA )?PRIVATE KEY-----[A-Za-z0-9+/=\s\\\"']{1000,}-----END")
_BASE64 = re.compile(rb"(?:LS0tLS1CRUdJTi|e[yw])[A-Za-z0-9+/\r\n]{400,}={0,2}")
"""Base64 that begins as a PEM or as a JSON object does."""


def secret_in(file: Path, size: int) -> str | None:
    """What a file holds of a pool's secrets: KEY, TOKEN or None. Raises OSError."""
    if size > LARGEST:
        return None
    content = file.read_bytes()
    for text in (content, *map(_decode, _BASE64.findall(content))):
        if _KEY.search(text):
            return KEY
        if b"pool_id" in text and _is_token(text):
            return TOKEN
    return None


def agents_files(environment: Mapping[str, str]) -> frozenset[str]:
    """The key's and the token's file as an agent started from here would take them, free of links."""
    return frozenset(os.path.realpath(environment[name]) for name in (KEY_FILE, TOKEN_FILE) if environment.get(name))


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()))
    except binascii.Error:
        return b""


def _is_token(content: bytes) -> bool:
    try:
        PoolToken.model_validate_json(content.strip())
    except ValidationError:
        return False
    return True
