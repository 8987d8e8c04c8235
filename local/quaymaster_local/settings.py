"""Where things are: the source tree, the tools, the folder of the local clouds. The only reader of the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quaymaster_local.errors import ToolMissing

REGION = "us-east-1"
ROOT_ACCESS_KEY = "test"
ROOT_SECRET_KEY = "test"
LOOPBACK = "127.0.0.1"

# Passed on to child processes; everything else of the caller's environment stays out.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "UV_CACHE_DIR", "PYENV_ROOT")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The paths of one checkout and its tools.

    `source` holds `template.yaml`; `tools` holds the environments `ministack` and `sam`;
    `clouds` holds one folder per local cloud, named after it. `agent_program` is started instead of the agent.
    `function_path` is a folder that functions find modules in before all others: tests watch them from there.
    """

    source: Path
    tools: Path
    clouds: Path
    agent_program: Path | None = None
    function_path: Path | None = None

    @property
    def ministack_python(self) -> Path:
        """The interpreter that ministack is installed under; raises ToolMissing."""
        return self._tool("ministack/bin/python")

    @property
    def sam(self) -> Path:
        """The AWS SAM command line; raises ToolMissing."""
        return self._tool("sam/bin/sam")

    @property
    def agent(self) -> Path:
        """The `quaymaster-agent` installed beside this interpreter; raises ToolMissing."""
        if self.agent_program is not None:
            return self.agent_program
        agent = Path(sys.executable).with_name("quaymaster-agent")
        if not agent.exists():
            raise ToolMissing(f"{agent} is missing: install the package quaymaster-worker into this environment")
        return agent

    def _tool(self, relative: str) -> Path:
        path = self.tools / relative
        if not path.exists():
            raise ToolMissing(f"{path} is missing: run `make tools` in {self.source}")
        return path


def load_settings(environ: Mapping[str, str] | None = None, source: Path | None = None) -> Settings:
    """Read `QUAYMASTER_SOURCE`, `QUAYMASTER_TOOLS` and `QUAYMASTER_LOCAL_DIR`, each of which has a default.

    The source tree is the nearest folder with a `template.yaml` at or above the current one, else the one
    this package lies in. Raises ToolMissing when there is none.
    """
    variables = os.environ if environ is None else environ
    named = variables.get("QUAYMASTER_SOURCE")
    root = source or (Path(named).resolve() if named else _find_source())
    return Settings(
        source=root,
        tools=Path(variables.get("QUAYMASTER_TOOLS") or root / ".tools"),
        clouds=Path(variables.get("QUAYMASTER_LOCAL_DIR") or Path.cwd() / ".local").resolve(),
    )


def _find_source() -> Path:
    here, package = Path.cwd(), Path(__file__).resolve()
    for folder in (here, *here.parents, *package.parents):
        if (folder / "template.yaml").exists() and (folder / "functions").is_dir():
            return folder
    raise ToolMissing("no template.yaml here: run this in a checkout of Quaymaster, or set QUAYMASTER_SOURCE to one")


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The few variables of the caller that tools need, and no credentials or endpoints of its own."""
    variables = os.environ if environ is None else environ
    return {name: variables[name] for name in _INHERITED if name in variables}


def root_environment(endpoint_url: str) -> dict[str, str]:
    """What makes AWS tools talk to the local cloud at `endpoint_url` as its root, and to nothing else."""
    return {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": ROOT_ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": ROOT_SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def python() -> Path:
    """The interpreter that this package runs under."""
    return Path(sys.executable)
