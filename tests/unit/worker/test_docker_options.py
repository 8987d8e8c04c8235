"""What a host with the executor `docker` says of containers: read, or refused by name."""

from pathlib import Path

import pytest
from quaymaster_worker.configuration.docker_options import DockerOptions, Mount, Pull, read_docker_options
from quaymaster_worker.errors import ConfigurationRefused


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def read(state: Path, **given: str) -> DockerOptions:
    return read_docker_options({f"QUAYMASTER_{name}": value for name, value in given.items()}, state)


def test_without_any_all_is_as_the_engine_has_it(state: Path) -> None:
    assert read(state) == DockerOptions()
    assert read(state).network == "bridge"


def test_all_are_read(state: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    found = read(
        state,
        DOCKER_CONFIG_DIR=str(tmp_path), WORKER_NETWORK="build", WORKER_RUNTIME="runsc", WORKER_MEMORY="512m",
        WORKER_CPUS="1.5", WORKER_PIDS="64", WORKER_READ_ONLY_ROOT="true", WORKER_IMAGE_PULL="missing",
        DEFAULT_RUNNER_IMAGE="a:1", DEFAULT_ANSIBLE_RUNNER_IMAGE="b:1",
    )  # fmt: skip
    assert found == DockerOptions(
        config_dir=tmp_path, network="build", runtime="runsc", memory=512 << 20, cpus=1.5, pids=64,
        read_only_root=True, pull=Pull.MISSING, default_image="a:1", default_ansible_image="b:1",
    )  # fmt: skip


def test_variables_are_passed_to_all_to_those_that_change_nothing_or_to_the_others(state: Path) -> None:
    given = {"QUAYMASTER_WHITELIST_ENVS": "A, ro_B,wo_C,D", "A": "1", "B": "2", "C": "3", "ro_B": "no"}
    found = read_docker_options(given, state)
    assert found.environment(read_only=True) == {"A": "1", "B": "2"}
    assert found.environment(read_only=False) == {"A": "1", "C": "3"}


def test_mounts_are_for_all_for_those_that_change_nothing_or_for_the_others(state: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    found = read(
        state,
        WORKER_EXTRA_MOUNTS=f"{tmp_path}/a:/a,{tmp_path}/b:/b:ro",
        WORKER_RO_EXTRA_MOUNTS=f"{tmp_path}/c:/c",
    )
    both = [Mount(f"{tmp_path}/a", "/a"), Mount(f"{tmp_path}/b", "/b", read_only=True)]
    assert found.mounts_of(read_only=False) == both
    assert found.mounts_of(read_only=True) == [*both, Mount(f"{tmp_path}/c", "/c")]


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("DOCKER_CONFIG_DIR", "/nowhere", "'/nowhere'"),
        ("WHITELIST_ENVS", "A,B C", "'B C'"),
        ("WHITELIST_ENVS", "ro_", "'ro_'"),
        ("WHITELIST_ENVS", "wo_QUAYMASTER_TOKEN", "'wo_QUAYMASTER_TOKEN'"),
        ("WORKER_EXTRA_MOUNTS", "/tmp", "'/tmp'"),
        ("WORKER_EXTRA_MOUNTS", "/tmp:relative", "'/tmp:relative'"),
        ("WORKER_RO_EXTRA_MOUNTS", "/tmp:/tmp:z", "'/tmp:/tmp:z'"),
        ("WORKER_WO_EXTRA_MOUNTS", "/no/such/folder:/x", "'/no/such/folder'"),
        ("WORKER_MEMORY", "1k", "'1k'"),
        ("WORKER_MEMORY", "much", "'much'"),
        ("WORKER_CPUS", "0", "'0'"),
        ("WORKER_CPUS", "-1", "'-1'"),
        ("WORKER_PIDS", "0", "'0'"),
        ("WORKER_READ_ONLY_ROOT", "on", "'on'"),
        ("WORKER_IMAGE_PULL", "sometimes", "'sometimes'"),
    ],
)
def test_what_is_wrong_is_refused_with_its_name(state: Path, name: str, value: str, found: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        read(state, **{name: value})
    assert refused.value.variable == f"QUAYMASTER_{name}"
    assert found in refused.value.found


@pytest.mark.parametrize("shown", ["socket", "folder", "above", "link", "state", "root"])
def test_no_mount_shows_the_engines_socket_or_the_agents_state(state: Path, tmp_path: Path, shown: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    socket = folder / "docker.sock"
    socket.touch()
    (tmp_path / "link").symlink_to(folder)
    source = {
        "socket": socket, "folder": folder, "above": tmp_path, "link": tmp_path / "link", "state": state, "root": "/",
    }[shown]  # fmt: skip
    given = {"DOCKER_HOST": f"unix://{socket}", "QUAYMASTER_WORKER_EXTRA_MOUNTS": f"{source}:/inside"}
    with pytest.raises(ConfigurationRefused) as refused:
        read_docker_options(given, state)
    assert refused.value.allowed.startswith("nothing that shows ")
