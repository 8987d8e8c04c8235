"""`--check`: what was tried is shown, with every host for an allow-list; nothing of it is a secret."""

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from quaymaster.domain.messages import Endpoint, PoolToken
from quaymaster_worker.checking import Finding, check, show
from quaymaster_worker.configuration.settings import Settings, read_settings
from quaymaster_worker.errors import ConfigurationRefused

from tests.shared.passage import let_others_pass
from tests.shared.tls_parties import BROKER, CA, OURS, broker


@pytest.fixture
def listener() -> Iterator[int]:
    """The port of something that answers."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def settings_for(tmp_path: Path, endpoints: list[Endpoint], **fields: str) -> Settings:
    let_others_pass(tmp_path)
    token = PoolToken(
        namespace="ns",
        pool_id="01M85C8FVN3KT0DYZJVVMDY2BZ",
        mqtt=endpoints,
        certificate=OURS.pem.decode(),
        ca=CA.pem.decode(),
        store=fields.pop("store", None),
    )
    given = {
        "QUAYMASTER_TOKEN": token.model_dump_json(by_alias=True),
        "QUAYMASTER_POOL_PRIVATE_KEY": OURS.key_pem.decode(),
        "QUAYMASTER_STATE_DIR": str(tmp_path / "state"),
    }
    return read_settings(given | fields)


def made(tmp_path: Path) -> Path:
    """A folder for the broker's files."""
    folder = tmp_path / "broker"
    folder.mkdir(exist_ok=True)
    return folder


def told(found: list[Finding]) -> dict[str, tuple[bool, str]]:
    return {one.what: (one.ok, one.told) for one in found}


def test_every_host_is_tried_and_what_would_be_is_said(
    tmp_path: Path, listener: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with broker(made(tmp_path), BROKER, ssl.TLSVersion.TLSv1_3) as endpoint:
        settings = settings_for(tmp_path, [endpoint], store=f"http://127.0.0.1:{listener}/bucket")
        found = asyncio.run(check(settings, 2))
    seen = told(found)
    assert seen["broker"] == (True, f"{endpoint.host}:{endpoint.port}: takes the certificate")
    assert seen["store"] == (True, f"127.0.0.1:{listener}: answers")
    assert seen["policy"] == (True, "none: every run is allowed")
    assert seen["would be"][1].startswith("2 workers of pool 01M85C8FVN3KT0DYZJVVMDY2BZ in ns; runs as processes, as ")
    assert show(found, as_json=False) == 0
    shown = capsys.readouterr().out
    allowed = shown[shown.index("allow outbound (TCP):") :].split()[3:]
    assert allowed == sorted([f"127.0.0.1:{listener}", f"{endpoint.host}:{endpoint.port}"])
    assert "PRIVATE" not in shown
    assert list((tmp_path / "state" / "work").iterdir()) == []
    assert list((tmp_path / "state" / "agents").iterdir()) == []


def test_what_does_not_answer_is_told_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = Endpoint(host="127.0.0.1", port=1)
    with broker(made(tmp_path), BROKER, ssl.TLSVersion.TLSv1_3) as endpoint:
        settings = settings_for(tmp_path, [closed, endpoint], store="https://none.invalid")
        found = asyncio.run(check(settings, 1))
    assert (False, "127.0.0.1:1: Connection refused") in [(one.ok, one.told) for one in found]
    assert not told(found)["store"][0]
    assert show(found, as_json=True) == 69
    shown = json.loads(capsys.readouterr().out)
    assert "none.invalid:443" in shown["outbound"]
    assert [one["ok"] for one in shown["findings"] if one["what"] == "broker"] == [False, True]


def test_options_that_mean_nothing_and_a_policy_are_told(tmp_path: Path) -> None:
    (tmp_path / "policy.rego").write_text('package p\ndeny["x"] { input.run.type == "drift" }\n')
    variable = "QUAYMASTER_LAUNCHER_RUN_INITIALIZATION_POLICY"
    with broker(made(tmp_path), BROKER, ssl.TLSVersion.TLSv1_3) as endpoint:
        given = {variable: str(tmp_path / "policy.rego"), "QUAYMASTER_WORKER_NETWRK": "host"}
        found = asyncio.run(check(settings_for(tmp_path, [endpoint], **given), 1))
    seen = told(found)
    assert seen["option"][1].startswith("QUAYMASTER_WORKER_NETWRK is no option of the agent; perhaps ")
    assert seen["policy"] == (True, f"{tmp_path}/policy.rego: ok")
    assert seen["store"] == (True, "its host comes with each assignment; the pool's token is of an older version")


def test_a_setting_that_is_wrong_is_refused_as_at_a_start(tmp_path: Path) -> None:
    with broker(made(tmp_path), BROKER, ssl.TLSVersion.TLSv1_3) as endpoint:
        settings = replace(settings_for(tmp_path, [endpoint]), private_key=BROKER.key_pem)
    with pytest.raises(ConfigurationRefused, match="does not belong"):
        asyncio.run(check(settings, 1))
