"""From the words of `run start` to a request on its way."""

import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from quaymaster.domain import ids
from quaymaster.domain.api import AcceptedRun, PrepareUpload
from quaymaster.domain.execve import MAX_TOTAL_BYTES, total_bytes
from quaymaster.domain.phases import check_strings
from quaymaster.domain.requests import MAX_INLINE_BYTES, RunRequest, Workspace, check_request
from quaymaster.errors import Refused

from quaymaster_cli.errors import Interrupted, Usage
from quaymaster_cli.workspace import Wish, pack, upload

if TYPE_CHECKING:
    from quaymaster_cli.deployment.client import ApiClient
    from quaymaster_cli.runs.document import Document


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


def make_request(options: Mapping[str, object], document: "Document | None" = None) -> RunRequest:
    """The request that a command line (what of it was said) and a document ask for; an option goes before a field.

    Variables of both are put together. Raises Usage, with the line of the document where it is about that.
    """
    said = {name: value for name, value in options.items() if value}
    fields = {**document.fields, **said} if document else said
    if document and isinstance(document.fields.get("environment"), dict) and "environment" in said:
        fields["environment"] = {**document.fields["environment"], **cast("dict[str, str]", said["environment"])}
    # Drawn here, so that a repeated call is still the same request.
    fields.setdefault("id", ids.ulid(datetime.now(UTC), secrets.token_bytes(10)))
    try:
        request = check_request(fields)
        check_strings(request.command, request.environment)
    except Refused as refused:
        if document and refused.field.partition(".")[0] not in said:
            raise document.at(refused) from None
        raise Usage(str(refused)) from None
    return request


def start_run(api: "ApiClient", request: RunRequest, folder: Wish | None, note: Callable[[str], None]) -> AcceptedRun:
    """Put the request's folder (and an environment too large for it) into the bucket, and send it."""
    command_size = _size(request.command)
    if command_size > MAX_INLINE_BYTES:
        raise Usage(f"the command has over {MAX_INLINE_BYTES} bytes; put it into a file and send that with --dir")
    environment = request.environment
    if (total := total_bytes(request.command, environment)) > MAX_TOTAL_BYTES:
        raise Usage(f"command and environment take {total} bytes; a system passes {MAX_TOTAL_BYTES} to a command")
    large = command_size + _size([*environment, *environment.values()]) > MAX_INLINE_BYTES
    if folder or large:
        workspace = _send_inputs(api, request.pool, folder, environment if large else {}, note)
        inline = {} if large else dict(environment)
        request = request.model_copy(update={"workspace": workspace, "environment": inline})
    try:
        return api.start_run(request)
    except KeyboardInterrupt:
        raise Interrupted(
            f"request {request.id} may have been sent; `run show {request.id} --pool {request.pool}`"
        ) from None


def _send_inputs(
    api: "ApiClient", pool: str, folder: Wish | None, environment: Mapping[str, str], note: Callable[[str], None]
) -> Workspace:
    try:
        # Asked for first: a pool that does not exist is told before anything is packed.
        place = api.prepare_upload(PrepareUpload(pool=pool))
        with tempfile.TemporaryFile() as file:
            return upload(api, place, pack(folder, environment, file, note))
    except KeyboardInterrupt:
        raise Interrupted("nothing was started") from None


def _size(words: Sequence[str]) -> int:
    return sum(len(word.encode()) for word in words)
