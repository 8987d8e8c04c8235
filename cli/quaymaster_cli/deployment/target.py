"""Which deployment is meant: a stack by its name, the URL in QUAYMASTER_API_URL, or a local cloud that is up."""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from quaymaster_cli.errors import Unreachable

if TYPE_CHECKING:
    import boto3

DEFAULT_STACK = "quaymaster"


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which deployment is meant, as far as the command line says."""

    stack_name: str | None = None
    profile: str | None = None
    region: str | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """A deployment's API and whoever acts there. `endpoint_url` is only set for a local cloud."""

    api_url: str
    region: str
    session: "boto3.Session"
    endpoint_url: str | None = None


def find_target(where: Where, environ: Mapping[str, str]) -> Target:
    """The deployment that is meant. Raises Unreachable.

    A stack that is named comes first, then QUAYMASTER_API_URL, then a local cloud that is up (unless a profile or a
    region says that AWS is meant), then the stack `quaymaster`.
    """
    if not where.stack_name:
        if url := environ.get("QUAYMASTER_API_URL"):
            return _by_url(where, url, environ)
        if not (where.profile or where.region) and (local := _local_cloud(environ)):
            return local
    return _by_stack(where, environ)


def _by_url(where: Where, url: str, environ: Mapping[str, str]) -> Target:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unreachable(f"QUAYMASTER_API_URL is {url!r}; it must be the API's URL, like the stack's output ApiUrl")
    session = _session(where, environ)
    region = where.region or _region_in(parts.hostname) or session.region_name
    if not region:
        raise Unreachable("no region: give --region or set AWS_REGION")
    return Target(api_url=url, region=region, session=session, endpoint_url=environ.get("AWS_ENDPOINT_URL"))


def _region_in(host: str) -> str | None:
    labels = host.split(".")
    return labels[2] if len(labels) > 3 and labels[1] == "lambda-url" else None


def _session(where: Where, environ: Mapping[str, str]) -> "boto3.Session":
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.Session(profile_name=where.profile, region_name=where.region or environ.get("AWS_REGION"))
    except BotoCoreError as error:
        raise Unreachable(str(error)) from None


def _by_stack(where: Where, environ: Mapping[str, str]) -> Target:
    name = where.stack_name or DEFAULT_STACK
    session = _session(where, environ)
    if not session.region_name:
        raise Unreachable("no region: give --region or set AWS_REGION (or QUAYMASTER_API_URL for the API itself)")
    outputs = _outputs(session, name)
    if "ApiUrl" not in outputs:
        raise Unreachable(f"stack {name!r} in {session.region_name} is no deployment of Quaymaster: it has no ApiUrl")
    return Target(api_url=outputs["ApiUrl"], region=session.region_name, session=session)


def _outputs(session: "boto3.Session", stack: str) -> dict[str, str]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        # The stubs know every service, pyright not every one of their overloads.
        client: Any = cast(Any, session).client("cloudformation")
        found: dict[str, Any] = client.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        text = error.response.get("Error", {}).get("Message", "refused")
        if "does not exist" in text:
            hint = "give --stack-name, --region or --profile, or `quaymaster local up` for a local one"
            raise Unreachable(f"no stack {stack!r} in {session.region_name}; {hint}") from None
        raise Unreachable(f"cannot look up stack {stack!r}: {text}") from None
    except BotoCoreError as error:
        raise Unreachable(f"cannot look up stack {stack!r}: {error}") from None
    return {one.get("OutputKey", ""): one.get("OutputValue", "") for one in found.get("Outputs", [])}


def _local_cloud(environ: Mapping[str, str]) -> Target | None:
    folder = Path(environ.get("QUAYMASTER_LOCAL_DIR") or ".local")
    found = {file.parent.name: json.loads(file.read_text()) for file in sorted(folder.glob("*/deployment.json"))}
    up = {name: cloud for name, cloud in found.items() if _answers(cloud["endpoint_url"])}
    if len(up) > 1 and "default" not in up:
        raise Unreachable(f"several local clouds are up ({', '.join(up)}): say which with QUAYMASTER_API_URL")
    chosen = up.get("default") or next(iter(up.values()), None)
    return _as_root(chosen) if chosen else None


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((parts.hostname or "", parts.port or 80)) == 0


def _as_root(cloud: dict[str, Any]) -> Target:
    import boto3

    credentials = cloud["credentials"]
    session = boto3.Session(
        aws_access_key_id=credentials["access_key_id"],
        aws_secret_access_key=credentials["secret_access_key"],
        region_name=cloud["region"],
    )
    return Target(api_url=cloud["api_url"], region=cloud["region"], session=session, endpoint_url=cloud["endpoint_url"])
