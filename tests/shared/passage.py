"""The way of other users to a test's temporary folder, which pytest closes to them."""

import tempfile
from pathlib import Path


def let_others_pass(folder: Path) -> None:
    """Let any user pass through a temporary folder, and through all above it that were made for the tests.

    How many there are depends on how the tests are run: where they are shared out among processes, each of these has
    a folder of its own between.
    """
    root = Path(tempfile.gettempdir())
    for each in (folder, *folder.parents):
        if each == root:
            return
        each.chmod(each.stat().st_mode | 0o011)
    raise AssertionError(f"{folder} is not below {root}")
