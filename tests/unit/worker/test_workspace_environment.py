"""An environment too large for a message comes inside the workspace, and out of it again."""

import json
from pathlib import Path

import pytest
from quaymaster.domain.objects import INPUT_ENVIRONMENT
from quaymaster.domain.states import Reason
from quaymaster_worker.errors import PreparationFailed
from quaymaster_worker.workspace.unpacking import take_environment


def test_the_environment_is_read_and_its_file_is_gone(tmp_path: Path) -> None:
    (tmp_path / INPUT_ENVIRONMENT).write_text(json.dumps({"A": "b"}))
    (tmp_path / "other").write_text("stays")
    assert take_environment(tmp_path) == {"A": "b"}
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert take_environment(tmp_path) == {}


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text(json.dumps({"A": "b"}))
    (tmp_path / INPUT_ENVIRONMENT).symlink_to("other")
    assert take_environment(tmp_path) == {}
    assert (tmp_path / "other").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"A": 1}', '{"A-B": "c"}', '{"": "c"}'])
def test_what_is_no_environment_fails_the_preparation(tmp_path: Path, content: str) -> None:
    (tmp_path / INPUT_ENVIRONMENT).write_text(content)
    with pytest.raises(PreparationFailed) as failed:
        take_environment(tmp_path)
    assert failed.value.reason is Reason.WORKSPACE
    assert not (tmp_path / INPUT_ENVIRONMENT).exists()
