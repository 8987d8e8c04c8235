"""A container engine of the tests' own, and images in it that no registry gave."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.shared.cloudformation import REPOSITORY

TOOLS = REPOSITORY / ".tools" / "engine"
"""What `make tools` has unpacked; empty where an engine runs anyway."""
BASE = "quaymaster-base"
SECONDS = 60


@dataclass(frozen=True)
class Engine:
    """An engine that runs; `base` is what images are built on, or none for the one that their files name."""

    environment: Mapping[str, str]
    base: str | None

    def docker(self, *arguments: str, seconds: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of `docker` to its end."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done

    def build(self, file: Path, context: Path, tag: str, *options: str) -> None:
        """Build an image, with this machine's network."""
        base = ["--build-arg", f"BASE={self.base}"] if self.base else []
        where = ["--file", str(file), "--tag", tag, str(context)]
        self.docker("build", "--network", "host", *base, *options, *where, seconds=600)


@contextmanager
def running_engine(logs: Path) -> Generator[Engine]:
    """The engine of this machine, or Debian's, which ends with this."""
    with tempfile.TemporaryDirectory(prefix="quaymaster-engine-") as held:
        folder = Path(held)
        environment = {**os.environ, "DOCKER_CONFIG": str(folder / "config")}
        if not (TOOLS / "base.tar").exists():
            yield Engine(environment, None)
            return
        environment["PATH"] = f"{TOOLS}/usr/bin:{TOOLS}/usr/sbin:{os.environ['PATH']}"
        environment["DOCKER_HOST"] = f"unix://{folder}/socket"
        logs.mkdir(parents=True, exist_ok=True)
        with (
            (logs / "dockerd.log").open("wb") as log,
            _bridge(environment) as bridge,
            _daemon(folder, environment, bridge, log.fileno()),
        ):
            engine = Engine(environment, BASE)
            engine.docker("import", str(TOOLS / "base.tar"), BASE)
            yield engine
            engine.docker("system", "prune", "--all", "--force", "--volumes")


@contextmanager
def _bridge(environment: Mapping[str, str]) -> Generator[str]:
    """A network for the engine's containers, which leads nowhere; others may run on this machine, each with its own."""
    name = f"qm{os.getpid() % 1_000_000}"
    number = os.getpid() % 250 + 1

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], env=environment, check=True, capture_output=True)

    ip("link", "add", "name", name, "type", "bridge")
    try:
        ip("address", "add", f"10.213.{number}.1/24", "dev", name)
        ip("link", "set", name, "up")
        yield name
    finally:
        ip("link", "delete", name)


@contextmanager
def _daemon(folder: Path, environment: Mapping[str, str], bridge: str, log: int) -> Generator[None]:
    """dockerd, which changes nothing of this machine's firewall."""
    found = shutil.which("dockerd", path=environment["PATH"])
    assert found, "`make test` unpacks dockerd"
    places = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    network = [f"--bridge={bridge}", "--iptables=false", "--ip6tables=false"]
    command = [found, *places, *network, f"--host={environment['DOCKER_HOST']}"]
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(process, environment)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
        # It leaves the folder of network namespaces mounted.
        for mounted in _mounted_below(folder):
            subprocess.run(["umount", mounted], check=True)


def _wait_for(process: subprocess.Popen[bytes], environment: Mapping[str, str]) -> None:
    deadline = time.monotonic() + SECONDS
    while subprocess.run(["docker", "info"], env=environment, capture_output=True, check=False).returncode != 0:
        assert process.poll() is None, "dockerd has ended"
        assert time.monotonic() < deadline, "dockerd does not answer"
        time.sleep(0.2)


def _mounted_below(folder: Path) -> list[str]:
    """Where something is mounted below a folder, the innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if Path(point).is_relative_to(folder)), reverse=True)
