"""The file of a phase's outputs: read only if it is the phase's own."""

import os
from pathlib import Path

import pytest
from quaymaster.errors import Refused
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
