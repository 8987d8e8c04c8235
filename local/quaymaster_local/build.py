"""`make build`, once per state of the sources, however many local clouds ask for it at once."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from quaymaster_local.errors import BuildFailed
from quaymaster_local.settings import Settings, child_environment

BUILT_TEMPLATE = Path(".aws-sam/build/template.yaml")
STAMP = Path(".aws-sam/sources.sha256")
LOCK = Path(".aws-sam/build.lock")
# What the build reads.
FILES = ("template.yaml", "samconfig.toml", "uv.lock", "Makefile")
FOLDERS = ("functions", "layers", "tools")
IGNORED = {"__pycache__", ".pytest_cache", ".ruff_cache"}


def sources_digest(source: Path) -> str:
    """A hash of every file that the build reads, by name and content."""
    found = [source / name for name in FILES if (source / name).exists()]
    for folder in FOLDERS:
        found += [path for path in (source / folder).rglob("*") if path.is_file() and not _ignored(path)]
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(f"{path.relative_to(source)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def build(settings: Settings) -> Path:
    """The built template of these sources, built now unless it is there already; raises BuildFailed."""
    built, stamp = settings.source / BUILT_TEMPLATE, settings.source / STAMP
    with _locked(settings.source / LOCK):
        digest = sources_digest(settings.source)
        if not (built.exists() and stamp.exists() and stamp.read_text() == digest):
            stamp.unlink(missing_ok=True)
            _make_build(settings)
            # Taken again: the build itself writes the layer's requirements, which are among the sources.
            stamp.write_text(sources_digest(settings.source))
    return built


def _ignored(path: Path) -> bool:
    return bool(IGNORED & set(path.parts)) or path.suffix == ".pyc"


@contextmanager
def _locked(file: Path) -> Generator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_build(settings: Settings) -> None:
    environ = child_environment()
    # sam looks for the layer's own Python minor on PATH, where an interpreter installed by pyenv is not by itself.
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ.get('PATH', '')}"
    environ["SAM_CLI_TELEMETRY"] = "0"
    ended = subprocess.run(
        ["make", "build"], cwd=settings.source, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if ended.returncode != 0:
        raise BuildFailed(f"`make build` in {settings.source} failed:\n{ended.stdout}{ended.stderr}"[-6000:])
