"""The wheels, installed on a host of their own by the steps of `worker/README.md`: no index, one folder."""

import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import psutil
import pytest
from quaymaster import __version__
from quaymaster.domain import messages as m
from quaymaster.domain.states import Reason
from quaymaster_worker.errors import ExitCode

from tests.integration.agent_lab import Lab
from tests.shared.cloudformation import REPOSITORY
from tests.shared.passage import let_others_pass

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]

UNIT = "quaymaster-agent.service"
PAGE = (REPOSITORY / "worker" / "README.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^```sh\n(.*?)^```", PAGE.partition("\n## On a host\n")[2], re.MULTILINE | re.DOTALL)[
    0
].splitlines()
SYSTEM = Path("/usr/lib/systemd/system")
UNDER = re.compile(r"(?<![\w/])/(?=(?:opt|etc|var)/)")


@pytest.fixture(scope="module")
def wheels() -> Path:
    """The folder that `make wheels` fills."""
    subprocess.run(["make", "wheels"], cwd=REPOSITORY, check=True, stdin=subprocess.DEVNULL)
    return REPOSITORY / "dist" / "wheels"


@dataclass(frozen=True)
class HostOfOnesOwn:
    """A folder that stands for a host's root, with the agent installed in it by the documented steps."""

    root: Path

    def file(self, name: str) -> Path:
        """A file of the host, by its path there."""
        return self.root / name.removeprefix("/")

    def unit(self, key: str) -> str:
        """A line of the installed unit."""
        (value,) = re.findall(rf"^{key}=(.*)$", self.file(f"/etc/systemd/system/{UNIT}").read_text(), re.MULTILINE)
        return value

    def command(self) -> list[str]:
        """What systemd would start."""
        program, *arguments = self.unit("ExecStart").split()
        return [str(self.file(program)), *arguments]

    def environment(self) -> dict[str, str]:
        """What systemd would start it with: the lines of the environment file, and its own."""
        lines = self.file(self.unit("EnvironmentFile")).read_text().splitlines()
        state = self.file(f"/var/lib/{self.unit('StateDirectory')}")
        state.mkdir(parents=True, exist_ok=True, mode=0o711)
        return {"PATH": "/usr/bin:/bin", "QUAYMASTER_STATE_DIR": str(state)} | dict(
            line.split("=", maxsplit=1) for line in lines
        )


@pytest.fixture(scope="module")
def host(wheels: Path, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostOfOnesOwn]:
    """The steps are the page's, with the paths of the host below a folder of ours, and no systemd to tell."""
    folder = tmp_path_factory.mktemp("host")
    # Phases have a user of their own, who passes through to their folder.
    let_others_pass(folder)
    root, home = folder / "root", folder / "home"
    home.mkdir()
    shutil.copytree(wheels, home / "wheels")
    shutil.copy(REPOSITORY / "worker" / UNIT, home)
    (home / "build.token").write_text(lab.token())
    (home / "build.pem").write_bytes(lab.key)
    for made in ("opt", "etc/systemd/system"):
        (root / made).mkdir(parents=True)
    assert STEPS[0].startswith("python3.13 ")
    assert STEPS[-1] == f"systemctl enable --now {UNIT.removesuffix('.service')}"
    script = UNDER.sub(f"{root}/", "\n".join(STEPS[:-1])).replace("python3.13", sys.executable, 1)
    plain = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    ended = subprocess.run(
        ["sh", "-e", "-c", script], cwd=home, env=plain, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    yield HostOfOnesOwn(root)
    shutil.rmtree(folder)


def test_our_wheels_want_each_other_in_exactly_their_own_version(wheels: Path) -> None:
    ours = sorted(wheels.glob("quaymaster*.whl"))
    wanted: set[str] = set()
    for wheel in ours:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = Parser().parsestr(archive.read(name).decode())
        assert metadata["Version"] == __version__
        wanted.update(one.partition(";")[0].strip() for one in metadata.get_all("Requires-Dist", []))
    assert len(ours) == 5
    own = {one for one in wanted if one.startswith("quaymaster")}
    assert own == {f"{name}=={__version__}" for name in ("quaymaster", "quaymaster-policy", "quaymaster-sealing")}
    # Whatever else they want is named exactly, too.
    assert {one for one in wanted if "==" not in one} == set()


def test_the_command_line_installs_from_the_same_folder(wheels: Path, tmp_path: Path) -> None:
    own = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    for command in (
        [sys.executable, "-m", "venv", "venv"],
        ["venv/bin/pip", "install", "--no-index", "--find-links", str(wheels), "quaymaster-cli"],
    ):
        subprocess.run(command, cwd=tmp_path, env=own, check=True, capture_output=True, timeout=300)
    told = subprocess.run(
        ["venv/bin/quaymaster", "--version"], cwd=tmp_path, env=own, check=True, capture_output=True, text=True
    )
    assert told.stdout == f"quaymaster {__version__}\n"
    share = tmp_path / "venv" / "share"
    for name in ("bash-completion/completions/quaymaster", "zsh/site-functions/_quaymaster"):
        assert "_QUAYMASTER_COMPLETE" in (share / name).read_text()
    assert (share / "fish/vendor_completions.d/quaymaster.fish").exists()


def test_the_installed_agent_says_its_version_and_refuses_what_is_wrong(host: HostOfOnesOwn) -> None:
    program, own = host.command()[0], host.environment()
    told = subprocess.run([program, "--version"], env=own, check=True, capture_output=True, text=True)
    assert told.stdout == f"quaymaster-agent {__version__}\n"
    wrong = own | {"QUAYMASTER_TOKEN_FILE": "/nowhere"}
    refused = subprocess.run(host.command(), env=wrong, check=False, capture_output=True, text=True, timeout=60)
    assert refused.returncode == ExitCode.CONFIGURATION_REFUSED
    assert "QUAYMASTER_TOKEN_FILE" in refused.stderr


def test_it_runs_a_run_and_sigterm_reaches_it_as_systemd_sends_it(host: HostOfOnesOwn, lab: Lab) -> None:
    agent = lab.welcome(lab.start_program(host.command(), host.environment()))
    lab.begin(agent, "HOST", ["sh", "-c", "echo $QUAYMASTER_RUN"])
    assert lab.finish("HOST").outcome.exit_code == 0
    assert lab.log_of("HOST") == [("output", "HOST")]
    lab.begin(agent, "STOPPED", ["sh", "-c", "echo up; sleep 300"])
    lab.wait_for_chunks("STOPPED")
    # What systemd started is the agent itself, with no shell between them; `mixed` means SIGTERM to it alone.
    assert (host.unit("KillMode"), host.unit("KillSignal"), host.unit("Type")) == ("mixed", "SIGTERM", "exec")
    assert host.command()[0] in psutil.Process(agent.process.pid).cmdline()
    family = psutil.Process(agent.process.pid).children(recursive=True)
    assert len(family) >= 2, "a warden, and the phase under it"
    agent.process.send_signal(signal.SIGTERM)
    report = lab.finish("STOPPED")
    assert (report.outcome.reason, report.leaving) == (Reason.INTERRUPTED, True)
    lab.control.wait(m.Goodbye, lambda bye: bye.session == agent.session)
    assert agent.wait() == ExitCode.GOODBYE
    assert psutil.wait_procs(family, timeout=60)[1] == []


@pytest.mark.parametrize(("line", "instead", "fault"), [("", "", ""), ("KillMode=mixed", "KillMode=mxed", "kill mode")])
def test_the_unit_passes_systemds_own_look_at_it(host: HostOfOnesOwn, line: str, instead: str, fault: str) -> None:
    if not (shutil.which("systemd-analyze") and SYSTEM.exists()):
        pytest.skip("this machine has no systemd-analyze")
    if not host.file(str(SYSTEM)).exists():
        shutil.copytree(SYSTEM, host.file(str(SYSTEM)), symlinks=True)
    unit = host.file(f"/etc/systemd/system/{UNIT}")
    shipped = unit.read_text()
    try:
        unit.write_text(shipped.replace(line, instead) if line else shipped)
        verify = ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", f"--root={host.root}", UNIT]
        told = subprocess.run(verify, check=False, capture_output=True, text=True, timeout=60)
    finally:
        unit.write_text(shipped)
    assert (told.returncode == 0) == (not fault), told.stderr
    assert fault in told.stderr
