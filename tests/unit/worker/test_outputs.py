"""The file of a phase's outputs: read only if it is the phase's own."""

import base64
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from quaymaster.errors import Refused
from quaymaster_sealing.keys import generate_key
from quaymaster_sealing.sealing import unseal
from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.phase.outputs import outputs_in


def test_a_phase_that_leaves_nothing_leaves_nothing(tmp_path: Path) -> None:
    assert outputs_in(tmp_path / "outputs.json", None) is None
    (tmp_path / "outputs.json").write_text("\n")
    assert outputs_in(tmp_path / "outputs.json", None) is None


def test_what_it_leaves_is_read(tmp_path: Path) -> None:
    (tmp_path / "outputs.json").write_text('{"a": 1}')
    found = outputs_in(tmp_path / "outputs.json", None)
    assert found
    assert found.outputs == {"a": 1}


def test_what_is_sensitive_leaves_the_host_sealed_to_the_pools_key_or_not_at_all(tmp_path: Path) -> None:
    file, key = tmp_path / "outputs.json", generate_key()
    file.write_text(json.dumps({"plain": 1, "secret": {"value": "hunter2", "sensitive": True}}))
    without, found = outputs_in(file, None), outputs_in(file, None, key)
    assert without
    assert found
    assert (without.sensitive, without.sealed) == (["secret"], None)
    assert found.outputs == without.outputs == {"plain": 1}
    assert "hunter2" not in found.model_dump_json()
    sealed = base64.b64decode(found.sealed or "")
    assert json.loads(unseal(sealed, key)) == {"secret": "hunter2"}
    for wrong in (lambda: unseal(sealed, generate_key()), lambda: unseal(sealed[:-1], key)):
        with pytest.raises(ValueError, match="not sealed to this key, or not whole"):
            wrong()
    file.write_text('{"plain": 1}')
    only = outputs_in(file, None, key)
    assert only
    assert only.sealed is None


def test_a_key_that_cannot_seal_is_told(tmp_path: Path) -> None:
    file = tmp_path / "outputs.json"
    file.write_text('{"secret": {"value": "hunter2", "sensitive": true}}')
    elliptic = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(Refused, match="an RSA key") as refused:
        outputs_in(file, None, elliptic)
    assert "hunter2" not in str(refused.value)


def test_the_agent_reads_nothing_for_a_phase_that_the_phase_could_not(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"secret": "hunter2"}')
    named = tmp_path / "outputs.json"
    named.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        outputs_in(named, None)
    named.unlink()
    os.link(secret, named)
    with pytest.raises(Refused, match="a plain file"):
        outputs_in(named, None)
    named.unlink()
    os.mkfifo(named)
    with pytest.raises(Refused, match="a plain file"):
        outputs_in(named, None)
    named.unlink()
    named.mkdir()
    with pytest.raises((Refused, OSError)):
        outputs_in(named, None)


def test_a_file_of_another_user_is_not_the_phases(tmp_path: Path) -> None:
    (tmp_path / "outputs.json").write_text('{"a": 1}')
    other = RunUser(name="other", uid=os.geteuid() + 1, gid=0)
    with pytest.raises(Refused, match="of the command's own"):
        outputs_in(tmp_path / "outputs.json", other)
