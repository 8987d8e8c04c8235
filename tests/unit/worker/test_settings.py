"""The agent's settings and credentials: what is read, and how what is wrong is refused."""

import base64
import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from quaymaster.domain.messages import Executor, PoolToken
from quaymaster_worker.configuration.settings import SYSTEM_PATH, read_settings
from quaymaster_worker.configuration.token import decode_key, decode_token
from quaymaster_worker.connection.credentials import check_credentials
from quaymaster_worker.errors import ConfigurationRefused

from tests.shared.tls_parties import BROKER, CA, OURS

TOKEN = json.dumps(
    {
        "schema": 1,
        "namespace": "quaymaster",
        "pool_id": "01M85C8FVN3KT0DYZJVVMDY2BZ",
        "mqtt": [{"host": "broker.example", "port": 8883}],
        "certificate": "-----BEGIN CERTIFICATE-----",
        "ca": None,
    }
)
KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWtleS1ieXRlcw==\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "QUAYMASTER_TOKEN": TOKEN,
        "QUAYMASTER_POOL_PRIVATE_KEY": KEY,
        "QUAYMASTER_STATE_DIR": str(tmp_path / "state"),
    }


def test_the_least_environment_is_enough(environ: dict[str, str], tmp_path: Path) -> None:
    settings = read_settings(environ)
    assert settings.token.mqtt[0].host == "broker.example"
    assert settings.private_key == KEY.encode()
    assert settings.state_dir == tmp_path / "state"
    assert (settings.metadata, settings.launch, settings.stop_deadline, settings.debug) == ({}, None, None, False)


def test_base64_and_files_are_read_as_well(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(base64.b64encode(TOKEN.encode()).decode() + "\n")
    (tmp_path / "key").write_bytes(base64.encodebytes(KEY.encode()))
    del environ["QUAYMASTER_TOKEN"], environ["QUAYMASTER_POOL_PRIVATE_KEY"]
    environ["QUAYMASTER_TOKEN_FILE"] = str(tmp_path / "token")
    environ["QUAYMASTER_POOL_PRIVATE_KEY_FILE"] = str(tmp_path / "key")
    settings = read_settings(environ)
    assert settings.token == decode_token(TOKEN)
    assert settings.private_key == decode_key(KEY)


@pytest.mark.parametrize(
    ("named", "path"),
    [("", SYSTEM_PATH), ("/opt/tools", f"/opt/tools:{SYSTEM_PATH}"), (":/a::/b:", f"/a:/b:{SYSTEM_PATH}")],
)
def test_the_path_of_phases_is_a_systems_behind_what_the_launcher_names(
    environ: dict[str, str], named: str, path: str
) -> None:
    assert read_settings(environ | {"PATH": "/root/closed", "QUAYMASTER_LAUNCHER_PATH": named}).path == path


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("QUAYMASTER_LAUNCHER_PATH", ":tools", "'tools'"),
        ("QUAYMASTER_LAUNCHER_PATH", "/opt/tools:.", "'.'"),
        ("QUAYMASTER_TOKEN", "", "neither"),
        ("QUAYMASTER_TOKEN_FILE", "/nowhere", "both"),
        ("QUAYMASTER_TOKEN", "%%%", "base64"),
        ("QUAYMASTER_TOKEN", '{"schema": 1}', "namespace"),
        ("QUAYMASTER_POOL_PRIVATE_KEY", "-----BEGIN CERTIFICATE-----", "private key"),
        ("QUAYMASTER_LAUNCHER_LOG_TIMEOUT", "5", "'5'"),
        ("QUAYMASTER_LAUNCHER_RUN_TIMEOUT", "", "''"),
        ("QUAYMASTER_STOP_DEADLINE", "-3m", "'-3m'"),
        ("QUAYMASTER_DEBUG", "yes", "'yes'"),
        ("QUAYMASTER_DEBUG", "", "''"),
        ("QUAYMASTER_METADATA_zone", "", "''"),
        ("QUAYMASTER_METADATA_zone", "null", "'null'"),
        ("QUAYMASTER_METADATA_zone", "None", "'None'"),
        ("QUAYMASTER_METADATA_", "x", "no name"),
        ("QUAYMASTER_METADATA_zone", "x" * 257, "257 characters"),
        ("QUAYMASTER_STATE_DIR", "/proc/none", "/proc/none"),
        ("QUAYMASTER_RUN_USER", "no-such-user", "no-such-user"),
        ("QUAYMASTER_EXECUTOR", "podman", "'podman'"),
        ("QUAYMASTER_MASK_ENVS", "A,B=C", "'B=C'"),
        ("QUAYMASTER_RUN_LOGS_ON_STANDARD_OUTPUT_ENABLED", "1", "'1'"),
        ("QUAYMASTER_SENSITIVE_OUTPUT_UPLOAD_ENABLED", "True", "'True'"),
        ("QUAYMASTER_LAUNCHER_RUN_INITIALIZATION_POLICY", "/nowhere.rego", "/nowhere.rego"),
    ],
)
def test_what_is_wrong_is_refused_with_its_name_and_what_was_found(
    environ: dict[str, str], name: str, value: str, found: str
) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        read_settings(environ | {name: value})
    assert name.removesuffix("_FILE") in str(refused.value)
    assert found in str(refused.value)
    assert "allowed: " in str(refused.value)


def test_a_refusal_never_repeats_a_secret(environ: dict[str, str]) -> None:
    broken = TOKEN.replace('"namespace"', '"name"')
    for name, value in (("QUAYMASTER_TOKEN", broken), ("QUAYMASTER_POOL_PRIVATE_KEY", KEY.replace("BEGIN", "BEGUN"))):
        with pytest.raises(ConfigurationRefused) as refused:
            read_settings(environ | {name: value})
        assert "c2VjcmV0" not in str(refused.value)
        assert "broker.example" not in str(refused.value)


def test_durations_and_metadata_are_read(environ: dict[str, str]) -> None:
    given = {
        "QUAYMASTER_LAUNCHER_LOG_TIMEOUT": "1h10m",
        "QUAYMASTER_STOP_DEADLINE": "5m",
        "QUAYMASTER_GIVE_UP_AFTER": "30s",
        "QUAYMASTER_METADATA_zone": "a",
        "QUAYMASTER_DEBUG": "true",
    }
    settings = read_settings(environ | given)
    assert settings.launcher_log_timeout == timedelta(minutes=70)
    assert (settings.stop_deadline, settings.give_up_after) == (timedelta(minutes=5), timedelta(seconds=30))
    assert settings.metadata == {"zone": "a"}
    assert settings.debug


def test_the_names_of_others_are_read_where_the_own_ones_are_absent(environ: dict[str, str]) -> None:
    others = {
        "SPACELIFT_LAUNCHER_RUN_TIMEOUT": "120m",
        "SPACELIFT_LAUNCHER_LOGS_TIMEOUT": "1000s",
        "SPACELIFT_METADATA_asg": "a-1",
        "SPACELIFT_TOKEN": "not this one",
    }
    settings = read_settings(environ | others | {"QUAYMASTER_LAUNCHER_LOG_TIMEOUT": "3m"})
    assert settings.launcher_run_timeout == timedelta(hours=2)
    assert settings.launcher_log_timeout == timedelta(minutes=3)
    assert settings.metadata == {"asg": "a-1"}
    assert settings.notes == [
        "SPACELIFT_LAUNCHER_RUN_TIMEOUT is read as QUAYMASTER_LAUNCHER_RUN_TIMEOUT",
        "SPACELIFT_METADATA_asg is read as QUAYMASTER_METADATA_asg",
    ]


def test_a_refusal_names_the_variable_that_was_set(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        read_settings(environ | {"SPACELIFT_LAUNCHER_RUN_TIMEOUT": "long"})
    assert refused.value.variable == "SPACELIFT_LAUNCHER_RUN_TIMEOUT"
    assert str(refused.value).startswith("SPACELIFT_LAUNCHER_RUN_TIMEOUT: found ")


def test_names_that_mean_nothing_and_options_without_effect_are_told(environ: dict[str, str]) -> None:
    given = {"QUAYMASTER_LAUNCHER_LOGTIMEOUT": "7m", "QUAYMASTER_X": "1", "QUAYMASTER_WORKER_NETWORK": "host"}
    assert read_settings(environ | given).notes == [
        "QUAYMASTER_LAUNCHER_LOGTIMEOUT is no option of the agent; perhaps QUAYMASTER_LAUNCHER_LOG_TIMEOUT was meant",
        "QUAYMASTER_X is no option of the agent",
        "QUAYMASTER_WORKER_NETWORK has no effect here: it is for the executor docker",
    ]


def test_the_executor_is_the_pools_unless_the_host_says_another(environ: dict[str, str]) -> None:
    assert read_settings(environ).executor is Executor.PROCESS
    in_docker = json.dumps(json.loads(TOKEN) | {"executor": "docker"})
    assert read_settings(environ | {"QUAYMASTER_TOKEN": in_docker}).executor is Executor.DOCKER
    assert read_settings(environ | {"QUAYMASTER_EXECUTOR": "docker"}).executor is Executor.DOCKER


def test_what_is_to_be_masked_is_read_from_the_agents_own_variables_too(environ: dict[str, str]) -> None:
    settings = read_settings(environ | {"QUAYMASTER_MASK_ENVS": "A, B,C", "A": "secret", "C": ""})
    assert (settings.mask, settings.masked) == (["A", "B", "C"], ["secret"])


def test_an_ecs_task_gets_a_fresh_state_folder(environ: dict[str, str], tmp_path: Path) -> None:
    del environ["QUAYMASTER_STATE_DIR"]
    first, second = (
        read_settings(environ | {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/x"}).state_dir
        for _ in range(2)
    )
    assert first != second
    first.rmdir()
    second.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose a user")
def test_root_runs_phases_as_uids_of_their_own_unless_told_otherwise(environ: dict[str, str]) -> None:
    by_default, chosen = read_settings(environ), read_settings(environ | {"QUAYMASTER_RUN_USER": "0"}).run_user
    assert (by_default.run_user, by_default.run_uids) == (None, range(60706, 61184))
    assert chosen is not None
    assert chosen.name == "root"
    in_task = read_settings(environ | {"ECS_CONTAINER_METADATA_URI_V4": "http://x/v4/y"}).run_user
    assert in_task is not None
    assert in_task.name == "nobody"
    for wrong in ("7", "9-3", "0-5", "a-b", "-", "1-99999999999"):
        with pytest.raises(ConfigurationRefused, match="QUAYMASTER_RUN_UIDS: found"):
            read_settings(environ | {"QUAYMASTER_RUN_UIDS": wrong})


RELATIVE = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x"}
IN_ECS = {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/x"}


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, {}),
        (RELATIVE | {"AWS_REGION": "eu-west-1"}, {}),
        (IN_ECS | {"AWS_REGION": "eu-west-1"}, {}),
        (IN_ECS | RELATIVE | {"AWS_REGION": "eu-west-1"}, RELATIVE | {"AWS_REGION": "eu-west-1"}),
        (IN_ECS | RELATIVE | {"AWS_ACCESS_KEY_ID": "AKID", "AWS_PROFILE": "host"}, RELATIVE),
    ],
)
def test_the_way_to_a_tasks_role_is_kept_for_phases_and_no_other_credentials_are(
    environ: dict[str, str], more: dict[str, str], found: dict[str, str]
) -> None:
    assert read_settings(environ | more).task_role == found


def test_bytes_that_are_no_text_are_refused_by_name(environ: dict[str, str]) -> None:
    """As Python shows them: half surrogates, which would break the first message."""
    for name, value in (("QUAYMASTER_METADATA_zone", "a\udcff"), ("QUAYMASTER_METADATA_\udcff", "a")):
        with pytest.raises(ConfigurationRefused, match="bytes that are no UTF-8") as refused:
            read_settings(environ | {name: value})
        assert str(refused.value).isascii()


def test_a_pem_whose_lines_came_as_backslash_n_is_understood() -> None:
    assert decode_key(KEY.replace("\n", "\\n")) == KEY.encode()
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    found = json.loads(TOKEN) | {"certificate": pem.replace("\n", "\\n"), "ca": pem.replace("\n", "\\n")}
    token = decode_token(json.dumps(found))
    assert (token.certificate, token.ca) == (pem, pem)


def token_of(certificate: str, ca: str | None = None) -> PoolToken:
    return decode_token(TOKEN).model_copy(update={"certificate": certificate, "ca": ca})


def test_credentials_that_belong_together_are_let_through() -> None:
    check_credentials(token_of(OURS.pem.decode(), CA.pem.decode()), OURS.key_pem)
    check_credentials(token_of(OURS.pem.decode()), OURS.key_pem)


@pytest.mark.parametrize(
    ("certificate", "ca", "key", "said"),
    [
        ("garbage", None, OURS.key_pem, "QUAYMASTER_TOKEN: found a certificate that cannot be read"),
        (OURS.pem.decode()[:300], None, OURS.key_pem, "QUAYMASTER_TOKEN: found a certificate that cannot be read"),
        (OURS.pem.decode(), "garbage", OURS.key_pem, "QUAYMASTER_TOKEN: found a CA that cannot be read"),
        (OURS.pem.decode(), "", OURS.key_pem, "QUAYMASTER_TOKEN: found a CA that cannot be read"),
        (OURS.pem.decode(), None, BROKER.key_pem, "does not belong to the token's certificate"),
        (
            OURS.pem.decode(),
            None,
            OURS.key_pem[:200],
            "QUAYMASTER_POOL_PRIVATE_KEY: found a private key that",
        ),
        (OURS.pem.decode(), None, KEY.encode(), "QUAYMASTER_POOL_PRIVATE_KEY: found a private key that cannot be read"),
    ],
)
def test_credentials_that_cannot_be_used_are_refused_by_what_is_wrong(
    certificate: str, ca: str | None, key: bytes, said: str
) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        check_credentials(token_of(certificate, ca), key)
    assert said in str(refused.value)
    assert "BEGIN" not in str(refused.value)
