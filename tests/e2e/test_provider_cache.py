"""A cache of providers that is mounted into containers: plan on one host, apply on another."""

import os
import shutil
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hosts import start_host
from tests.shared.deployed.client import Deployment
from tests.shared.deployed.engine import BASE, Engine

pytestmark = [pytest.mark.docker, pytest.mark.local]

PLUGIN = "registry.example/team/tool/1.0.0/linux_amd64"
FILE = "terraform-provider-tool_v1.0.0"
CONFIG = """\
terraform {
  required_providers {
    tool = { source = "registry.example/team/tool", version = "1.0.0" }
  }
}
"""
LOOK = f"test -x .terraform/providers/{PLUGIN}/{FILE} && echo the provider is here"
"""What a plan and an apply do first: without the provider they end."""
STAND_IN = f"""\
#!/bin/sh
# As `terraform init` does with TF_PLUGIN_CACHE_DIR: a provider that is in the cache is linked, else it is put there.
set -e
cached="$TF_PLUGIN_CACHE_DIR/{PLUGIN}"
if [ ! -d "$cached" ]; then
  mkdir -p "$(dirname "$cached")"
  cp -r "/mirror/{PLUGIN}" "$cached"
fi
mkdir -p ".terraform/providers/$(dirname {PLUGIN})"
rm -f ".terraform/providers/{PLUGIN}"
ln -s "$cached" ".terraform/providers/{PLUGIN}"
"""


@pytest.fixture
def tools(open_folder: Path) -> Path:
    """What hosts mount: the tool, its settings, and a mirror with the one provider. Caches are beside it."""
    found = shutil.which("terraform")
    tool, mirror = open_folder / "terraform", open_folder / "mirror"
    provider = "#!/bin/sh\nexit 1\n"
    if found:
        shutil.copy(os.path.realpath(found), tool)
        packed = mirror / PLUGIN.partition("/1.0.0")[0] / f"{FILE.replace('_v', '_')}_linux_amd64.zip"
        packed.parent.mkdir(parents=True)
        entry = zipfile.ZipInfo(FILE)
        entry.external_attr = 0o755 << 16
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(entry, provider)
    else:
        tool.write_text(STAND_IN)
        plugin = mirror / PLUGIN
        plugin.mkdir(parents=True)
        (plugin / FILE).write_text(provider)
        (plugin / FILE).chmod(0o755)
    tool.chmod(0o755)
    (open_folder / "rc").write_text(
        'provider_installation {\n  filesystem_mirror {\n    path = "/mirror"\n  }\n}\n'
        "plugin_cache_may_break_dependency_lock_file = true\n"
    )
    return open_folder


def host(tools: Path, cache: str, *, mirror: bool, engine: Engine) -> Mapping[str, str]:
    """A host whose cache is this folder; one without the mirror has no way to the registry."""
    folder = tools / cache
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777 | stat.S_ISVTX)
    empty = tools / "empty"
    empty.mkdir(exist_ok=True)
    mounts = {
        tools / "terraform": "/usr/bin/terraform:ro",
        tools / "rc": "/etc/terraformrc:ro",
        tools / ("mirror" if mirror else "empty"): "/mirror:ro",
        folder: "/cache",
    }
    return {
        **{name: engine.environment[name] for name in ("DOCKER_HOST", "DOCKER_CONFIG")},
        "QUAYMASTER_WORKER_IMAGE_PULL": "missing",
        "QUAYMASTER_WORKER_EXTRA_MOUNTS": ",".join(f"{source}:{target}" for source, target in mounts.items()),
    }


def phases(*, init_again: bool) -> list[dict[str, Any]]:
    init = ["terraform", "init", "-input=false", "-no-color"]
    write = ["sh", "-c", f"cat > main.tf <<'END'\n{CONFIG}END\n"]
    plan: dict[str, Any] = {"name": "plan", "command": ["sh", "-c", LOOK], "before": [write, init]}
    apply: dict[str, Any] = {"name": "apply", "command": ["sh", "-c", LOOK], "needs_confirmation": True}
    return [plan, apply | ({"before": [init]} if init_again else {})]


@pytest.mark.parametrize(
    ("shared", "init_again", "mirror", "ends"),
    [
        (True, False, False, "FINISHED"),
        (False, False, True, "FAILED"),
        (False, True, True, "FINISHED"),
    ],
    ids=["a cache that both have", "each its own", "each its own, and init before apply"],
)
def test_a_plan_and_its_apply_on_two_hosts(
    deployment: Deployment,
    container_engine: Engine,
    tools: Path,
    shared: bool,
    init_again: bool,
    mirror: bool,
    ends: str,
) -> None:
    pool = deployment.create_pool(executor="docker", image=BASE)
    environment = {"TF_PLUGIN_CACHE_DIR": "/cache", "TF_CLI_CONFIG_FILE": "/etc/terraformrc"}
    first = start_host(deployment, pool, env=host(tools, "cache", mirror=True, engine=container_engine))
    wanted = {"phases": phases(init_again=init_again), "environment": environment}
    run = deployment.send(pool.pool_id, "r1", [], **wanted)
    waiting = deployment.wait(run, "UNCONFIRMED")
    assert "the provider is here" in deployment.output(waiting)
    assert first.stop() == 0
    cache = "cache" if shared else "another"
    start_host(deployment, pool, env=host(tools, cache, mirror=mirror, engine=container_engine))
    assert deployment.call("POST", f"/runs/{run}/confirm", {})[0] == 200
    found = deployment.wait(run)
    assert found["state"] == ends, (found["reason"], found["note"], deployment.log(found))
    assert ("the provider is here" in deployment.output(found)) == (ends == "FINISHED")
