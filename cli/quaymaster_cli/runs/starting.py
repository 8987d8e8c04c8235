"""From the words of `run start` to a request on its way."""

import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError
from quaymaster.domain import ids
from quaymaster.domain.api import AcceptedRun, PrepareUpload
from quaymaster.domain.execve import MAX_TOTAL_BYTES, total_bytes
from quaymaster.domain.requests import MAX_INLINE_BYTES, RunRequest, Workspace, check_strings, refusal
from quaymaster.errors import Refused

from quaymaster_cli.errors import Interrupted, Usage
from quaymaster_cli.workspace import Wish, pack, upload

if TYPE_CHECKING:
    from quaymaster_cli.deployment.client import ApiClient


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A run as it was asked for on the command line."""

    pool: str
    command: Sequence[str]
    environment: Mapping[str, str]
    id: str | None
    image: str | None
    folder: Wish | None
    log_timeout: str | None
    run_timeout: str | None
    type: str
    stack: str | None
    retryable: bool


def read_environment(pairs: Sequence[str]) -> dict[str, str]:
    """`K=V` words as a mapping. Raises Usage, which names the variable and never its value."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Usage("--env: write it as NAME=VALUE")
        if name in found:
            raise Usage(f"--env: {name} is there twice")
        found[name] = value
    return found


def start_run(api: "ApiClient", wanted: Wanted, note: Callable[[str], None]) -> AcceptedRun:
    """Check the request, put its folder (and an environment too large for it) into the bucket, and send it."""
    command_size = _size(wanted.command)
    if command_size > MAX_INLINE_BYTES:
        raise Usage(f"the command has over {MAX_INLINE_BYTES} bytes; put it into a file and send that with --dir")
    if (total := total_bytes(wanted.command, wanted.environment)) > MAX_TOTAL_BYTES:
        raise Usage(f"command and environment take {total} bytes; a system passes {MAX_TOTAL_BYTES} to a command")
    request = _request(wanted)
    large = command_size + _size([*wanted.environment, *wanted.environment.values()]) > MAX_INLINE_BYTES
    if wanted.folder or large:
        workspace = _send_inputs(api, wanted, wanted.environment if large else {}, note)
        inline = {} if large else dict(wanted.environment)
        request = request.model_copy(update={"workspace": workspace, "environment": inline})
    try:
        return api.start_run(request)
    except KeyboardInterrupt:
        raise Interrupted(
            f"request {request.id} may have been sent; `run show {request.id} --pool {request.pool}`"
        ) from None


def _send_inputs(
    api: "ApiClient", wanted: Wanted, environment: Mapping[str, str], note: Callable[[str], None]
) -> Workspace:
    try:
        # Asked for first: a pool that does not exist is told before anything is packed.
        place = api.prepare_upload(PrepareUpload(pool=wanted.pool))
        with tempfile.TemporaryFile() as file:
            return upload(api, place, pack(wanted.folder, environment, file, note))
    except KeyboardInterrupt:
        raise Interrupted("nothing was started") from None


def _request(wanted: Wanted) -> RunRequest:
    now = datetime.now(UTC)
    try:
        check_strings(wanted.command, wanted.environment)
        return RunRequest.model_validate(
            {
                # Drawn here, so that a repeated call is still the same request.
                "id": wanted.id or ids.ulid(now, secrets.token_bytes(10)),
                "pool": wanted.pool,
                "command": list(wanted.command),
                "environment": dict(wanted.environment),
                "image": wanted.image,
                "log_timeout": wanted.log_timeout,
                "run_timeout": wanted.run_timeout,
                "type": wanted.type,
                "stack": wanted.stack,
                "retryable": wanted.retryable,
            }
        )
    except ValidationError as error:
        raise Usage(str(refusal(error))) from None
    except Refused as refused:
        raise Usage(str(refused)) from None


def _size(words: Sequence[str]) -> int:
    return sum(len(word.encode()) for word in words)
