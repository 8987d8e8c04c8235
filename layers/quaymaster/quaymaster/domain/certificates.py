"""The one thing that Quaymaster reads in a certificate: when it ends. No library for that lies in the layer."""

import base64
import binascii
import re
from datetime import UTC, datetime

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_FORMATS = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
"""UTCTime and GeneralizedTime as RFC 5280, 4.1.2.5 writes them."""
_VERSION = 0xA0


def expiry(pem: str) -> datetime | None:
    """When the first certificate of a PEM text ends (notAfter), or None when it cannot be read."""
    found = _PEM.search(pem)
    try:
        return _not_after(base64.b64decode(found[1])) if found else None
    except (binascii.Error, IndexError, KeyError, ValueError):
        return None


def _not_after(certificate: bytes) -> datetime:
    # RFC 5280, 4.1: Certificate { TBSCertificate { [version], serial, signature, issuer, validity { from, to }, …
    fields = _children(_children(_children(certificate)[0][1])[0][1])
    validity = fields[4 if fields[0][0] == _VERSION else 3]
    tag, value = _children(validity[1])[1]
    return datetime.strptime(value.decode("ascii"), _FORMATS[tag]).replace(tzinfo=UTC)


def _children(der: bytes) -> list[tuple[int, bytes]]:
    """Tags and values of the DER elements in a row."""
    found: list[tuple[int, bytes]] = []
    start = 0
    while start < len(der):
        tag, length, start = der[start], der[start + 1], start + 2
        if length & 0x80:
            size = length & 0x7F
            length, start = int.from_bytes(der[start : start + size]), start + size
        found.append((tag, der[start : start + length]))
        start += length
    return found
