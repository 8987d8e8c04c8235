"""Putting a packed workspace where the run's worker fetches it."""

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from quaymaster.domain.api import Upload
from quaymaster.domain.requests import Workspace

from quaymaster_cli.errors import CliError, Usage
from quaymaster_cli.workspace.packing import Packed
from quaymaster_cli.workspace.progress import Progress, tell_size

if TYPE_CHECKING:
    from quaymaster_cli.deployment.client import ApiClient

_PART = 1 << 18


def upload(api: "ApiClient", place: Upload, packed: Packed) -> Workspace:
    """Put a packed workspace into the bucket by a presigned PUT. Raises CliError."""
    from quaymaster_cli.deployment.client import readable

    if packed.size > place.max_bytes:
        raise Usage(
            f"the packed workspace has {tell_size(packed.size)}; at most {tell_size(place.max_bytes)} are taken"
        )
    headers = {"Content-Length": str(packed.size)}
    with readable("the bucket"), Progress("uploading", packed.size) as progress:
        response = api.plain.put(place.url, content=_parts(packed.file, progress), headers=headers)
    if not response.is_success:
        raise CliError(f"the bucket refused the workspace: {response.status_code} {response.reason_phrase}")
    return Workspace(key=place.key, sha256=packed.sha256)


def _parts(file: IO[bytes], progress: Progress) -> Iterator[bytes]:
    while part := file.read(_PART):
        yield part
        progress.add(len(part))
