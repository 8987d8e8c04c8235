"""Presigned S3 requests by botocore's own signers, without a client: making one would cost a cold start 60 ms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import quote

from botocore.auth import S3SigV4PostAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


@dataclass(frozen=True, kw_only=True)
class BucketAddress:
    """Where a bucket answers: under its own host on AWS, by path at any other endpoint."""

    bucket: str
    region: str
    endpoint_url: str | None = None

    @property
    def url(self) -> str:
        """The bucket's URL, without a slash at its end."""
        if self.endpoint_url:
            return f"{self.endpoint_url.rstrip('/')}/{self.bucket}"
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return f"https://{self.bucket}.s3.{self.region}.{suffix}"

    def object_url(self, key: str) -> str:
        """An object's URL."""
        return f"{self.url}/{quote(key, safe='/~')}"


class Presigner:
    """Presigns with the credentials of this process; what it makes can do no more, and lives no longer, than they."""

    def __init__(self, address: BucketAddress, credentials: Callable[[], Credentials]) -> None:
        self._address = address
        self._credentials = credentials

    def url(self, method: str, key: str, life: timedelta, headers: Mapping[str, str] | None = None) -> str:
        """A URL for one method on one object; the headers are signed and must be sent as they are."""
        request = AWSRequest(method, self._address.object_url(key), headers=dict(headers or {}))
        signer = S3SigV4QueryAuth(self._credentials(), "s3", self._address.region, expires=_seconds(life))
        signer.add_auth(request)
        return cast("str", request.url)

    def post(self, prefix: str, max_bytes: int, life: timedelta) -> dict[str, str]:
        """Form fields of a POST that may write any object below the prefix, of 1 to `max_bytes` bytes."""
        expires_at = datetime.now(UTC) + timedelta(seconds=_seconds(life))
        policy: dict[str, Any] = {
            "expiration": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "conditions": [
                {"bucket": self._address.bucket},
                ["starts-with", "$key", prefix],
                ["content-length-range", 1, max_bytes],
            ],
        }
        fields: dict[str, str] = {}
        request = AWSRequest("POST", self._address.url)
        request.context["s3-presign-post-fields"] = fields
        request.context["s3-presign-post-policy"] = policy
        S3SigV4PostAuth(self._credentials(), "s3", self._address.region).add_auth(request)
        return fields

    @property
    def post_url(self) -> str:
        """Where forms are posted to."""
        return self._address.url


def _seconds(life: timedelta) -> int:
    # S3 allows seven days at most and refuses zero.
    return min(max(1, int(life.total_seconds())), 7 * 86_400)
