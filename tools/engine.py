"""Make a container engine for the tests: one that runs already is used as it is, else Debian's is unpacked here.

`python3 tools/engine.py FOLDER PYTHON`. Into the folder go the packages of Debian's engine, unpacked, and `base.tar`: a
Debian with the Python of that path, as what images are built on, so that no registry of images is needed. Nothing is
installed on the machine. Needs root, apt and a Debian of the same release as the Python was built for.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ENGINE = ("docker.io", "containerd", "runc", "tini", "docker-registry")
BOOTSTRAP = "debootstrap"
LIBRARIES = (
    "ca-certificates",
    "libbz2-1.0",
    "libffi8",
    "liblzma5",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
    "libuuid1",
    "zlib1g",
)
"""What a Python needs, and what every image of it has."""
NOT_NEEDED = ("test", "idlelib", "tkinter", "turtledemo", "__pycache__")


def main(folder: Path, python: Path) -> None:
    """Make the engine and its base, unless an engine runs on this machine anyway."""
    if runs_already():
        print("==> the container engine of this machine is used")
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SystemExit(
            "the tests of the worker's image need a container engine: start one that `docker info` finds, "
            "or run them as root on Debian"
        )
    with tempfile.TemporaryDirectory(prefix="quaymaster-engine-") as held:
        packages = Path(held) / "packages"
        packages.mkdir()
        unpack(packages, folder)
        base(Path(held) / "root", folder, python)


def runs_already() -> bool:
    """Whether `docker` answers."""
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=60).returncode == 0


def unpack(packages: Path, folder: Path) -> None:
    """Fetch the packages and unpack them into the folder."""
    # apt's own user fetches, and needs to write here.
    packages.chmod(0o777)
    packages.parent.chmod(0o711)
    wanted = [*ENGINE, BOOTSTRAP]
    if subprocess.run(["apt-get", "download", *wanted], cwd=packages, capture_output=True, check=False).returncode:
        run("apt-get", "--quiet", "--quiet", "update")
        run("apt-get", "--quiet", "--quiet", "download", *wanted, cwd=packages)
    for package in packages.iterdir():
        run("dpkg", "--extract", str(package), str(folder))


def base(root: Path, folder: Path, python: Path) -> None:
    """A small Debian with this Python in /usr/local, as one tar file."""
    environment = {"DEBOOTSTRAP_DIR": str(folder / "usr/share/debootstrap")}
    script = folder / "usr/sbin/debootstrap"
    include = f"--include={','.join(LIBRARIES)}"
    run(str(script), "--variant=minbase", include, release(), str(root), environment=environment)
    prefix, local = python.parent.parent, root / "usr/local"
    if prefix == Path("/usr"):
        raise SystemExit(f"{python} is a part of this system; the image's base needs one in a folder of its own")
    (local / "bin").mkdir(exist_ok=True)
    shutil.copy2(python, local / "bin")
    for name in ("python3", "python"):
        (local / "bin" / name).symlink_to(python.name)
    for found in prefix.glob("lib/libpython3*"):
        shutil.copy2(found, local / "lib", follow_symlinks=False)
    library = f"lib/{python.name}"
    shutil.copytree(prefix / library, local / library, symlinks=True, ignore=shutil.ignore_patterns(*NOT_NEEDED, "*.a"))
    run("chroot", str(root), "ldconfig")
    for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / waste, ignore_errors=True)
    run("tar", "--directory", str(root), "--create", "--file", str(folder / "base.tar"), ".")


def release() -> str:
    """The name of this machine's Debian."""
    lines = Path("/etc/os-release").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    name = found.get("VERSION_CODENAME", "").strip('"')
    if found.get("ID") != "debian" or not name:
        raise SystemExit("the base of images is made from this machine's Debian, and this is none")
    return name


def run(*command: str, cwd: Path | None = None, environment: dict[str, str] | None = None) -> None:
    """Run it; whatever it says is shown only when it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
