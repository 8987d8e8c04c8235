"""Install uv with nothing but some python3: `install_uv.py FOLDER VERSION` leaves FOLDER/bin/uv."""

import subprocess
import sys
from pathlib import Path

REFUSAL = """uv could not be installed with {python}.
Install uv by hand (any way that puts it on PATH) or give this Python its pip or venv module, and run make again."""


def install(folder: Path, version: str) -> bool:
    """Try a virtual environment first, then pip alone: Debian ships either without the other."""
    requirement = f"uv=={version}"
    attempts = (
        [
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(folder / "bin/pip"), "install", "-q", requirement],
        ],
        [[sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), requirement]],
    )
    return any(all(succeeds(command) for command in commands) for commands in attempts) and (folder / "bin/uv").exists()


def succeeds(command: list[str]) -> bool:
    """Run the command; show what it said only where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    if not install(Path(sys.argv[1]), sys.argv[2]):
        sys.exit(REFUSAL.format(python=sys.executable))
