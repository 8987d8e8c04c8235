"""Signing requests to the Function URL (SigV4, service `lambda`)."""

from collections.abc import Generator
from typing import TYPE_CHECKING

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError

from quaymaster_cli.errors import Unreachable

if TYPE_CHECKING:
    import boto3


class Signature(httpx.Auth):
    """Signs each request with the session's credentials, read anew each time so that short-lived ones may renew."""

    requires_request_body = True

    def __init__(self, session: "boto3.Session", region: str) -> None:
        self._session = session
        self._region = region

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the signature's headers. Raises Unreachable when there are no credentials."""
        # An empty header that is signed, and then dropped on the way, is a bad signature.
        headers = {name: found for name in ("Host", "Content-Type") if (found := request.headers.get(name))}
        signed = AWSRequest(method=request.method, url=str(request.url), data=request.content, headers=headers)
        SigV4Auth(self._credentials(), "lambda", self._region).add_auth(signed)
        for name in ("Authorization", "X-Amz-Date", "X-Amz-Security-Token"):
            if name in signed.headers:
                request.headers[name] = signed.headers[name]
        yield request

    def _credentials(self) -> Credentials:
        try:
            found = self._session.get_credentials()
            frozen = found.get_frozen_credentials() if found else None
        except BotoCoreError as error:
            raise Unreachable(f"cannot get AWS credentials: {error}") from None
        if not frozen or not frozen.access_key or not frozen.secret_key:
            raise Unreachable("no AWS credentials: give --profile, or sign in as you do for the AWS command line")
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)
