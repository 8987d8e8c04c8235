"""Images of a private registry: with its login, without, and while it does not answer."""

import base64
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.hosts import start_host
from tests.shared.deployed.client import Deployment
from tests.shared.deployed.engine import BASE, TOOLS, Engine

pytestmark = [pytest.mark.docker, pytest.mark.local]

USER, PASSWORD = "worker", "correct-horse"
HASHED = "$2y$05$abcdefghijklmnopqrstuuZ0Fx87Pb/Aqb0E90lfvCwzXnaFKUHpS"
"""The password in bcrypt, which is all that the registry takes."""
CONFIG = """\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: tests, path: {folder}/users}}}}
"""


@dataclass
class Registry:
    """A registry with a login, which can be stopped and started."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def image(self) -> str:
        return f"127.0.0.1:{self.port}/team/tool:1"

    def start(self) -> None:
        program = TOOLS / "usr/bin/docker-registry"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([program, "serve", self.folder / "config.yml"], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        with closing(socket.socket()) as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(30)

    def login(self, folder: Path) -> Path:
        """The folder with what `docker login` would write."""
        folder.mkdir()
        both = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {f"127.0.0.1:{self.port}": {"auth": both}}}))
        return folder


@pytest.fixture(scope="module")
def registry(container_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that has the image."""
    folder = tmp_path_factory.mktemp("registry")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        made = Registry(folder, free.getsockname()[1])
    (folder / "users").write_text(f"{USER}:{HASHED}\n")
    (folder / "config.yml").write_text(CONFIG.format(folder=folder, port=made.port))
    made.start()
    container_engine.docker("tag", BASE, made.image)
    login = made.login(folder / "push")
    container_engine.docker("--config", str(login), "push", made.image)
    yield made
    made.stop()


@pytest.fixture
def image(container_engine: Engine, registry: Registry) -> str:
    """Its name; it is not on the engine."""
    container_engine.docker("rmi", registry.image, check=False)
    return registry.image


def environment(engine: Engine, **more: str) -> dict[str, str]:
    return {name: engine.environment[name] for name in ("DOCKER_HOST", "DOCKER_CONFIG")} | more


def test_an_image_of_a_private_registry_needs_its_login(
    deployment: Deployment, container_engine: Engine, registry: Registry, image: str, tmp_path: Path
) -> None:
    pool = deployment.create_pool(executor="docker")
    stranger = start_host(deployment, pool, env=environment(container_engine))
    refused = deployment.wait(deployment.send(pool.pool_id, "stranger", ["true"], image=image))
    assert (refused["state"], refused["reason"]) == ("FAILED", "image_pull")
    assert "no basic auth credentials" in refused["note"]
    said = [line["msg"] for line in deployment.log(refused)]
    assert said == [f"pulling image {image}", refused["note"]]
    assert stranger.stop() == 0
    login = registry.login(tmp_path / "login")
    start_host(deployment, pool, env=environment(container_engine, QUAYMASTER_DOCKER_CONFIG_DIR=str(login)))
    run = deployment.wait(deployment.send(pool.pool_id, "known", ["sh", "-c", "echo here"], image=image))
    assert (run["state"], run["image"], run["image_from"]) == ("FINISHED", image, "request")
    lines = [line["msg"] for line in deployment.log(run)]
    assert lines[0] == f"pulling image {image}"
    assert lines[-2].startswith(f"image {image} is here, after ")
    assert lines[-1] == "here"
    assert PASSWORD not in json.dumps(lines)


def test_an_image_that_the_registry_does_not_have_is_told_in_its_words(
    deployment: Deployment, container_engine: Engine, registry: Registry, tmp_path: Path
) -> None:
    pool = deployment.create_pool(executor="docker")
    login = registry.login(tmp_path / "login")
    start_host(deployment, pool, env=environment(container_engine, QUAYMASTER_DOCKER_CONFIG_DIR=str(login)))
    missing = registry.image.replace(":1", ":2").replace(str(registry.port), str(registry.port))
    found = deployment.wait(deployment.send(pool.pool_id, "missing", ["true"], image=missing))
    assert found["reason"] == "image_pull"
    assert "manifest" in found["note"]


def test_while_the_registry_does_not_answer_it_is_asked_again(
    deployment: Deployment, container_engine: Engine, registry: Registry, image: str, tmp_path: Path
) -> None:
    pool = deployment.create_pool(executor="docker")
    login = registry.login(tmp_path / "login")
    start_host(deployment, pool, env=environment(container_engine, QUAYMASTER_DOCKER_CONFIG_DIR=str(login)))
    registry.stop()
    run = deployment.send(pool.pool_id, "later", ["true"], image=image)
    deployment.wait(run, "PREPARING")
    time.sleep(2)
    os.sync()
    registry.start()
    found = deployment.wait(run)
    assert found["state"] == "FINISHED", found
    assert any("connection refused; tried again in" in line["msg"] for line in deployment.log(found))
