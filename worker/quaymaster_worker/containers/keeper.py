"""Outlives its agent for a moment: when the agent is gone, so are its containers.

    python -m quaymaster_worker.containers.keeper STATE_FOLDER AGENT

The end of its standard input is the end of the agent, however that ended. An agent that is killed cannot remove its
containers, and its run counts as lost after a while: nothing of it may act then. If the keeper is killed as well, the
next agent of this host removes them.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

from quaymaster_worker.containers.engine import Engine, engine_environment
from quaymaster_worker.containers.left_containers import AGENT, FOLDER, remove_labelled
from quaymaster_worker.errors import EngineRefused, EngineUnreachable

PATIENCE = 120.0
PAUSE = 1.0


def main(folder: str, agent: str) -> None:
    """Wait for the end of the agent, then remove what it left."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while sys.stdin.buffer.read(4096):
        pass
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            remove_labelled(Engine(), {FOLDER: folder, AGENT: agent})
            return
        except (EngineRefused, EngineUnreachable):
            time.sleep(PAUSE)


class Keeper:
    """The process, as its agent has it."""

    def __init__(self, folder: Path, agent: str) -> None:
        command = [sys.executable, "-P", "-m", __name__, str(folder), agent]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=engine_environment(),
            cwd="/",
            start_new_session=True,
        )

    def close(self) -> None:
        """The agent ends; whatever is left of its containers is removed."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
