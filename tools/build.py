"""Build what `sam deploy` deploys: `python -m tools.build`, under SAM's own interpreter.

One build at a time, and the folder appears whole: whoever deploys never sees half of one.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tools.slim_layer import slim

FOLDER = Path(".aws-sam")
BUILD, NEXT, PREVIOUS = FOLDER / "build", FOLDER / "next", FOLDER / "previous"
LOG = FOLDER / "build.log"


def main() -> int:
    """Build, make it start fast, and put it in the place of the last build. Prints SAM's words only if it fails."""
    FOLDER.mkdir(exist_ok=True)
    with one_at_a_time():
        with LOG.open("w") as log:
            built = subprocess.run(
                [*sam(), "build", "--cached", "--build-dir", str(NEXT)], stdout=log, stderr=log, check=False
            )
        if built.returncode:
            sys.stderr.write(LOG.read_text())
            return built.returncode
        slim(NEXT)
        shutil.rmtree(PREVIOUS, ignore_errors=True)
        if BUILD.exists():
            BUILD.rename(PREVIOUS)
        NEXT.rename(BUILD)
        (BUILD / "template.yaml").touch()
    return 0


@contextmanager
def one_at_a_time() -> Generator[None]:
    """Wait for another build of this checkout to end."""
    with (FOLDER / "make.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sam() -> list[str]:
    """SAM, with its own interpreter first on PATH: the pip of that one fills the layer."""
    own = Path(sys.executable).parent
    os.environ["PATH"] = f"{own}{os.pathsep}{os.environ['PATH']}"
    return [str(own / "sam")]


if __name__ == "__main__":
    raise SystemExit(main())
