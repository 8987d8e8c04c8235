"""What ties the processes of a local cloud to whoever started them."""

from __future__ import annotations

import os


class Lifeline:
    """A pipe whose read end the processes watch: when it closes, they stop by themselves.

    It closes with this process at the latest, even if that is killed. `release` lets them go on without it.
    """

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()
        self._open = True

    def release(self, processes: int) -> None:
        """Let this many processes go on by themselves."""
        os.write(self._write_end, b"." * processes)
        self.close()

    def close(self) -> None:
        """Let go; what was not released stops."""
        if self._open:
            self._open = False
            os.close(self.read_end)
            os.close(self._write_end)


def wait_for_end(lifeline: int) -> bool:
    """Block until the owner lets go; True if it ended, False if it released this process."""
    os.set_inheritable(lifeline, False)
    return os.read(lifeline, 1) == b""
