"""The file in which a phase leaves its outputs, read once nothing of the phase can write any more."""

import base64
import os
import stat
from pathlib import Path

from quaymaster.domain.outputs import MAX_OUTPUT_BYTES, Outputs, read_outputs
from quaymaster.errors import Refused

from quaymaster_worker.configuration.settings import RunUser

VARIABLE = "QUAYMASTER_OUTPUTS"


def outputs_in(file: Path, user: RunUser | None, key: bytes | None = None) -> Outputs | None:
    """What the phases have left, for everybody to read, and, sealed to the pool's `key`, what is sensitive of it.

    Without a key that stays here. None if there is nothing. Raises Refused, and OSError.
    """
    body = written_in(file, user)
    return read_outputs(body, (lambda plain: _sealed(plain, key)) if key else None) if body else None


def _sealed(plain: bytes, key: bytes) -> str:
    # Here, because an agent that seals nothing is smaller without.
    from quaymaster_sealing.sealing import seal

    try:
        return base64.b64encode(seal(plain, key)).decode()
    except ValueError as error:
        raise Refused(VARIABLE, f"sensitive outputs, and {error}", "a pool with an RSA key") from None


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
