"""Certificates in memory: names without keys."""

from collections.abc import Sequence

from quaymaster.adapters.iot.certificates import check_csr
from quaymaster.ports import Certificate


class MemoryCertificates:
    """Fulfils `ports.Certificates`; `issued` tells which pool each certificate id was made for."""

    def __init__(self, host: str = "broker.test") -> None:
        self.issued: dict[str, str] = {}
        self._host = host

    def issue(self, pool_id: str, csr: str) -> Certificate:
        check_csr(csr)
        number = f"{len(self.issued) + 1:064x}"
        self.issued[number] = pool_id
        return Certificate(
            id=number,
            arn=f"arn:aws:iot:us-east-1:000000000000:cert/{number}",
            pem=f"-----BEGIN CERTIFICATE-----\n{number}\n-----END CERTIFICATE-----\n",
            expires_at=None,
        )

    def endpoints(self) -> tuple[Sequence[tuple[str, int]], str | None]:
        return [(self._host, 8883)], None
