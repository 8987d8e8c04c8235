"""What bringing a local cloud up rests on: the build's cache, free ports, processes that are told apart."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from quaymaster_cli.main import run
from quaymaster_local.build import BUILT_TEMPLATE, build, sources_digest
from quaymaster_local.cloud import status
from quaymaster_local.deployment import Deployment, read_deployment
from quaymaster_local.ecs.callers import Caller
from quaymaster_local.ecs.tasks.containers import CONTAINER
from quaymaster_local.errors import BuildFailed, LocalCloudError, ToolMissing
from quaymaster_local.processes.lifeline import Lifeline
from quaymaster_local.processes.ports import answers, free_ports
from quaymaster_local.processes.sessions import Command, ProcessIdentity, start, stop
from quaymaster_local.settings import Settings, child_environment, load_settings
from quaymaster_local.stack import local_function_url

MAKEFILE = """build:
\t@mkdir -p .aws-sam/build
\t@echo built >> .aws-sam/builds
\t@cp template.yaml .aws-sam/build/template.yaml
"""


@pytest.fixture
def sources(tmp_path: Path) -> Settings:
    """A source tree whose `make build` counts how often it ran."""
    (tmp_path / "functions").mkdir()
    (tmp_path / "layers").mkdir()
    (tmp_path / "functions" / "handler.py").write_text("one")
    (tmp_path / "template.yaml").write_text("Resources: {}")
    (tmp_path / "Makefile").write_text(MAKEFILE)
    return Settings(source=tmp_path, tools=tmp_path / ".tools", clouds=tmp_path / ".local")


def builds(settings: Settings) -> int:
    return (settings.source / ".aws-sam" / "builds").read_text().count("built")


def test_sources_are_built_once_until_one_of_them_changes(sources: Settings) -> None:
    assert build(sources) == sources.source / BUILT_TEMPLATE
    build(sources)
    assert builds(sources) == 1
    (sources.source / "functions" / "handler.py").write_text("two")
    build(sources)
    assert builds(sources) == 2


def test_a_build_that_was_removed_is_made_again(sources: Settings) -> None:
    (build(sources)).unlink()
    build(sources)
    assert builds(sources) == 2


def test_caches_are_no_sources_and_new_files_are(sources: Settings) -> None:
    before = sources_digest(sources.source)
    cache = sources.source / "functions" / "__pycache__"
    cache.mkdir()
    (cache / "handler.pyc").write_bytes(b"x")
    assert sources_digest(sources.source) == before
    (sources.source / "layers" / "new.py").write_text("")
    assert sources_digest(sources.source) != before


def test_a_failing_build_shows_what_it_said_and_is_tried_again(sources: Settings) -> None:
    (sources.source / "Makefile").write_text("build:\n\t@echo no such layer; exit 3\n")
    for _ in range(2):
        with pytest.raises(BuildFailed, match="no such layer"):
            build(sources)


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert not any(answers(port) for port in ports)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert answers(ports[0])


def test_a_later_process_with_the_same_pid_is_never_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        created = psutil.Process(process.pid).create_time()
        earlier = ProcessIdentity(name="x", pid=process.pid, create_time=created - 10)
        assert earlier.running() is None
        stop(earlier)
        assert process.poll() is None
        stop(replace(earlier, create_time=created))
        assert not psutil.pid_exists(process.pid)


def test_stopping_a_process_ends_its_whole_tree(tmp_path: Path) -> None:
    lifeline = Lifeline()
    script = "import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
    command = Command(
        name="tree",
        argv=[sys.executable, "-c", script],
        environ=child_environment(),
        log=tmp_path / "log",
        folder=tmp_path,
        lifeline=lifeline.read_end,
    )
    _, identity = start(command, lambda _: None)
    deadline = time.monotonic() + 60
    while not (children := psutil.Process(identity.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stop(identity)
    assert identity.running() is None
    psutil.wait_procs(children, timeout=60)
    assert not children[0].is_running()
    lifeline.close()


@pytest.mark.parametrize("stands_for", [[], ["--leave-orphans"]])
def test_an_agent_ends_with_its_container_even_if_that_is_killed(stands_for: list[str]) -> None:
    words = [sys.executable, "-P", str(CONTAINER), *stands_for, "sleep", "600"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as container:
        assert container.stdout is not None
        agent = psutil.Process(int(container.stdout.readline()))
        container.kill()
        container.wait()
        psutil.wait_procs([agent], timeout=60)
        assert not agent.is_running() or agent.status() == psutil.STATUS_ZOMBIE


def test_a_released_lifeline_lets_each_process_go_on_once() -> None:
    released, ended = Lifeline(), Lifeline()
    mine = os.dup(released.read_end)
    released.release(2)
    assert [os.read(mine, 1) for _ in range(3)] == [b".", b".", b""]
    other = os.dup(ended.read_end)
    ended.close()
    assert os.read(other, 1) == b""
    os.close(mine)
    os.close(other)


def test_a_missing_tool_says_how_to_get_it(sources: Settings) -> None:
    with pytest.raises(ToolMissing, match="make tools"):
        _ = sources.sam
    with pytest.raises(ToolMissing, match="make tools"):
        _ = sources.ministack_python


def test_settings_are_read_from_the_environment(tmp_path: Path) -> None:
    given = {"QUAYMASTER_SOURCE": str(tmp_path), "QUAYMASTER_LOCAL_DIR": str(tmp_path / "clouds")}
    settings = load_settings(given)
    assert (settings.source, settings.tools) == (tmp_path, tmp_path / ".tools")
    assert settings.clouds == tmp_path / "clouds"


def test_tools_get_nothing_of_the_callers_aws_configuration() -> None:
    given = {"PATH": "/bin", "AWS_PROFILE": "production", "AWS_SECRET_ACCESS_KEY": "x", "QUAYMASTER_TOKEN": "t"}
    assert child_environment(given) == {"PATH": "/bin"}


def test_a_cloud_that_was_never_up_is_down_and_odd_names_are_refused(sources: Settings) -> None:
    assert status("none", settings=sources).state == "down"
    with pytest.raises(LocalCloudError, match="no name of a local cloud"):
        status("../escape", settings=sources)


def a_deployment() -> Deployment:
    """What is written down of a cloud that is up."""
    identity = ProcessIdentity(name="ministack", pid=1, create_time=2.5)
    return Deployment(
        name="default",
        namespace="quaymaster",
        stack_name="quaymaster",
        region="us-east-1",
        endpoint_url="http://127.0.0.1:1",
        ecs_endpoint_url="http://127.0.0.1:2",
        api_url="http://127.0.0.1:1/_aws/lambda-url/x",
        mqtt_host="localhost",
        mqtt_port=3,
        ca_pem="pem",
        credentials={"access_key_id": "test", "secret_access_key": "test"},
        outputs={"TableName": "quaymaster"},
        functions={"ReapOverdue": "quaymaster-reap-overdue"},
        processes=(identity,),
        folder="/tmp/x",
        logs="/tmp/y",
        started_at="2030-01-01T00:00:00+00:00",
        seconds={"deploy": 1.0},
    )


def test_local_up_says_what_comes_next_in_lines_that_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def bring_up(name: str, tell: object) -> Deployment:
        return a_deployment()

    monkeypatch.setattr("quaymaster_local.cloud.up", bring_up)
    assert run(["local", "up"]) == 0
    told = capfd.readouterr()
    assert "  quaymaster-agent --count 2 2> .local/agent.log &" in told.err.splitlines()
    assert "export AWS_ENDPOINT_URL=http://127.0.0.1:1" in told.out.splitlines()
    assert "\\n" not in told.err


def test_a_deployment_is_read_as_it_was_written_and_only_by_its_user(tmp_path: Path) -> None:
    deployment = a_deployment()
    file = tmp_path / "default" / "deployment.json"
    deployment.write(file)
    assert read_deployment(file) == deployment
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_sessions_policies_are_those_of_its_role() -> None:
    session = Caller(arn="arn:aws:sts::000000000000:assumed-role/dispatch/quaymaster-dispatch-runs")
    assert session.policy_source == "arn:aws:iam::000000000000:role/dispatch"
    assert not session.is_root
    assert Caller(arn="arn:aws:iam::000000000000:root").is_root


def test_a_function_url_is_served_below_the_endpoint() -> None:
    url = local_function_url("http://127.0.0.1:4566", "https://abc.lambda-url.us-east-1.on.aws/")
    assert url == "http://127.0.0.1:4566/_aws/lambda-url/abc"
    with pytest.raises(LocalCloudError):
        local_function_url("http://127.0.0.1:4566", "")
