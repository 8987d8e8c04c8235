"""Files that hold a secret: made before anything is done that could not be undone, and taken away if it is not."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from quaymaster_cli.errors import CliError, Usage


@contextmanager
def new_secret(path: Path, option: str) -> Generator[Callable[[bytes], None]]:
    """A new file that only its owner may read, and what writes its content; gone again if the block fails.

    Raises Usage if there is one already, CliError if it cannot be made or written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Usage(f"{option}: {path} exists already") from None
    except OSError as error:
        raise CliError(f"{option}: cannot write {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:

        def write(content: bytes) -> None:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise CliError(f"{option}: cannot write {path}: {error.strerror}") from None

        try:
            yield write
        except BaseException:
            path.unlink(missing_ok=True)
            raise
