"""The file in which a phase leaves its outputs, read once nothing of the phase can write any more."""

import os
import stat
from pathlib import Path

from quaymaster.domain.outputs import MAX_OUTPUT_BYTES, Outputs, read_outputs
from quaymaster.errors import Refused

from quaymaster_worker.configuration.settings import RunUser

VARIABLE = "QUAYMASTER_OUTPUTS"


def outputs_in(file: Path, user: RunUser | None) -> Outputs | None:
    """What the phases have left, for everybody to read; None if nothing. Raises Refused, and OSError."""
    body = written_in(file, user)
    return read_outputs(body) if body else None


def written_in(file: Path, user: RunUser | None) -> bytes | None:
    """What the phases have written there; None if nothing. Raises Refused, and OSError.

    Only a plain file of the phase's own user is read: it says where to look, and must not have the agent read for it.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as opened:
        found = os.fstat(descriptor)
        own = user.uid if user else os.geteuid()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != own:
            raise Refused(VARIABLE, "something else than a file of the command's own", "a plain file")
        body = opened.read(MAX_OUTPUT_BYTES + 1)
    return body if body.strip() else None
