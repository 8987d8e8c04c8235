"""Run a command beside busy loops, as on a machine that others use: `python3 tools/on_a_busy_machine.py N COMMAND`.

Each loop keeps a processor busy for as long as the command runs; the command's exit code goes on.
"""

import subprocess
import sys

# Ends with whoever holds the other end of its standard input, even if that is killed.
LOOP = "import os, threading\nthreading.Thread(target=lambda: (os.read(0, 1), os._exit(0))).start()\nwhile True: pass"


def run(loops: int, command: list[str]) -> int:
    """The command's exit code."""
    busy = [subprocess.Popen([sys.executable, "-c", LOOP], stdin=subprocess.PIPE) for _ in range(loops)]
    try:
        code = subprocess.run(command, check=False).returncode
    finally:
        for one in busy:
            one.kill()
            one.communicate()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), sys.argv[2:]))
