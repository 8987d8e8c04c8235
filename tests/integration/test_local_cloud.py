"""The local cloud comes up, is complete, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from quaymaster_local.cloud import LocalCloud, down, status, up
from quaymaster_local.deployment import Deployment
from quaymaster_local.errors import AlreadyUp, NotUp, ToolMissing
from quaymaster_local.settings import Settings

pytestmark = pytest.mark.local


@pytest.fixture
def own_settings(local_settings: Settings, tmp_path: Path) -> Settings:
    """The checkout's settings with a folder of local clouds that no other test sees."""
    return replace(local_settings, clouds=tmp_path / "clouds")


@pytest.fixture
def command_environment(own_settings: Settings) -> dict[str, str]:
    """The environment of a command that finds what `own_settings` names."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "TMPDIR": tempfile.gettempdir(),
        "QUAYMASTER_SOURCE": str(own_settings.source),
        "QUAYMASTER_LOCAL_DIR": str(own_settings.clouds),
    }


def local(command: str, *arguments: str) -> list[str]:
    """The command line of this package."""
    return [sys.executable, "-m", "quaymaster_local", command, *arguments]


def belongings(name: str) -> list[str]:
    """What is left of a cloud: processes that work in its folder, and the folder."""
    prefix = str(Path(tempfile.gettempdir()) / f"quaymaster-{name}-")
    left = [str(path) for path in Path(tempfile.gettempdir()).glob(f"quaymaster-{name}-*")]
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        info: dict[str, object] = process.info  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
        if prefix in f"{info['cmdline']} {info['cwd']}":
            left.append(f"process {info['pid']}: {info['cmdline']}")
    return left


def until(look: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until `look` says so."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


@pytest.fixture
def several(own_settings: Settings) -> Iterator[list[Deployment]]:
    """Two local clouds of one user, up at once and going on by themselves."""
    names = ["one", "two"]
    deployments = [up(name, settings=own_settings) for name in names]
    yield deployments
    for name in names:
        if status(name, settings=own_settings).deployment is not None:
            down(name, settings=own_settings)


def test_several_clouds_live_beside_each_other_and_leave_nothing(
    own_settings: Settings, several: list[Deployment]
) -> None:
    one, two = several
    assert one.endpoint_url != two.endpoint_url
    assert status("one", settings=own_settings).state == "up"
    with pytest.raises(AlreadyUp):
        up("one", settings=own_settings)
    record = json.loads((own_settings.clouds / "one" / "deployment.json").read_text())
    assert record["api_url"] == one.environment()["QUAYMASTER_API_URL"]
    down("one", settings=own_settings)
    assert status("one", settings=own_settings).state == "down"
    assert status("two", settings=own_settings).state == "up"
    with pytest.raises(NotUp):
        down("one", settings=own_settings)
    down("two", settings=own_settings)
    assert not own_settings.clouds.exists()
    assert belongings("one") + belongings("two") == []


def test_a_cloud_that_lost_a_process_is_broken_and_is_replaced(
    own_settings: Settings, command_environment: dict[str, str]
) -> None:
    first = subprocess.run(
        local("up", "--name", "lost", "--json"), env=command_environment, capture_output=True, text=True, check=True
    )
    assert "deploy" in first.stderr
    pids = {one["name"]: one["pid"] for one in json.loads(first.stdout)["processes"]}
    os.kill(pids["ministack"], signal.SIGKILL)
    until(lambda: status("lost", settings=own_settings).state == "broken")
    told = subprocess.run(local("status", "--name", "lost", "--json"), env=command_environment, capture_output=True)
    assert told.returncode == 1
    assert json.loads(told.stdout)["processes"] == {"ecs-endpoint": True, "ministack": False}
    subprocess.run(local("up", "--name", "lost"), env=command_environment, capture_output=True, check=True)
    until(lambda: not psutil.pid_exists(pids["ecs-endpoint"]))
    subprocess.run(local("down", "--name", "lost"), env=command_environment, check=True)
    assert belongings("lost") == []


@pytest.mark.parametrize("wait_for", ["ministack/s3", "sam"])
def test_ctrl_c_while_it_comes_up_leaves_nothing(command_environment: dict[str, str], wait_for: str) -> None:
    # A name of its own: what a killed test has left of an earlier one would be taken for this one's.
    name = f"abandoned-{uuid4().hex[:8]}"
    command = subprocess.Popen(
        local("up", "--name", name),
        env=command_environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    parts = Path(tempfile.gettempdir())
    try:
        until(lambda: any(parts.glob(f"quaymaster-{name}-*/{wait_for.partition('/')[0]}")))
    finally:
        os.killpg(command.pid, signal.SIGINT)
        _, told = command.communicate(timeout=120)
    assert command.returncode == 130, told.decode()
    assert belongings(name) == []


def test_a_cloud_of_a_killed_process_ends_by_itself(command_environment: dict[str, str]) -> None:
    program = (
        "import sys, time\n"
        "from quaymaster_local.cloud import LocalCloud\n"
        "with LocalCloud('orphan') as cloud:\n"
        "    cloud.reap()\n"
        "    print('up', flush=True)\n"
        "    time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], env=command_environment, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"up\n"
    owner.kill()
    owner.wait()
    owner.stdout.close()
    until(lambda: belongings("orphan") == [], seconds=60)


def test_a_missing_tool_is_named_with_the_way_to_get_it(own_settings: Settings, tmp_path: Path) -> None:
    settings = replace(own_settings, tools=tmp_path)
    with pytest.raises(ToolMissing, match="make tools"), LocalCloud("toolless", settings=settings):
        pass
    assert belongings("toolless") == []


def test_the_function_url_answers_signed_requests_only(cloud: LocalCloud) -> None:
    request = AWSRequest(method="GET", url=f"{cloud.api_url}/nowhere")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request.url or "")
    assert refused.value.code == 403
    refused.value.close()
    SigV4Auth(Credentials("test", "test"), "lambda", "us-east-1").add_auth(request)
    signed = urllib.request.Request(f"{cloud.api_url}/nowhere", headers=dict(request.headers.items()))
    try:
        with urllib.request.urlopen(signed) as answer:
            status_code = answer.status
    except urllib.error.HTTPError as error:
        status_code = error.code
        error.close()
    assert status_code in (200, 404)


def test_agents_are_told_where_to_connect_and_the_table_expires_items(cloud: LocalCloud) -> None:
    parameter = cloud.client("ssm").get_parameter(Name=f"/quaymaster/{cloud.namespace}/agents")["Parameter"]
    assert json.loads(parameter["Value"]) == {
        "mqtt": [{"host": cloud.mqtt_host, "port": cloud.mqtt_port}],
        "ca": cloud.ca_pem,
    }
    ttl = cloud.client("dynamodb").describe_time_to_live(TableName=cloud.outputs["TableName"])
    assert ttl["TimeToLiveDescription"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}


def test_nothing_of_the_deployed_cloud_listens_beyond_the_loopback_interface(cloud: LocalCloud) -> None:
    cloud.reap()
    listening: set[str] = set()
    for identity in cloud.deployment.processes:
        process = psutil.Process(identity.pid)
        for one in [process, *process.children(recursive=True)]:
            listening |= {
                connection.laddr[0]
                for connection in one.net_connections(kind="inet")
                if connection.status == psutil.CONN_LISTEN
            }
    assert listening == {"127.0.0.1"}


def test_functions_do_not_see_the_secret_of_the_local_cloud(cloud: LocalCloud) -> None:
    cloud.reap()
    ministack = next(one for one in cloud.deployment.processes if one.name == "ministack")
    workers = psutil.Process(ministack.pid).children()
    assert workers
    assert not [name for worker in workers for name in worker.environ() if name.startswith("QUAYMASTER_LOCAL_")]
