"""What an attempt leaves for a later one is packed so that it can be unpacked, and holds nothing of others."""

import hashlib
import os
import socket
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest
from quaymaster.domain.objects import INPUT_ENVIRONMENT, LEFT_OUTPUTS
from quaymaster.domain.workspace_rules import Bounds
from quaymaster_worker.errors import PackingFailed, PreparationFailed
from quaymaster_worker.workspace.packing import pack, read_pieces
from quaymaster_worker.workspace.unpacking import take_environment, take_outputs, unpack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


def left(
    folder: Path, bounds: Bounds | None = None, beside: Mapping[str, bytes] | None = None
) -> tuple[Path, list[str]]:
    """Pack a folder, and unpack it again; the folder it came out in, and what was said."""
    said: list[str] = []
    archive, target = folder.parent / "left.tar.gz", folder.parent / "again"
    packed = pack(folder, beside or {}, archive, os.geteuid(), bounds or Bounds(), said.append)
    body = b"".join(read_pieces(archive))
    assert (packed.bytes, packed.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    target.mkdir()
    unpack(archive, target, Bounds())
    return target, said


def test_everything_comes_out_as_it_went_in(folder: Path) -> None:
    (folder / "modules" / "deep").mkdir(parents=True)
    (folder / "modules" / "deep" / "run.sh").write_text("#!/bin/sh")
    (folder / "modules" / "deep" / "run.sh").chmod(0o750)
    (folder / "plan.out").write_bytes(os.urandom(1 << 20))
    (folder / "link").symlink_to("modules/deep/run.sh")
    os.link(folder / "plan.out", folder / "same.out")
    (folder / "empty").mkdir()
    again, said = left(folder)
    assert said == []
    assert (again / "plan.out").read_bytes() == (folder / "plan.out").read_bytes()
    assert (again / "same.out").samefile(again / "plan.out")
    assert (again / "link").read_text() == "#!/bin/sh"
    assert (again / "modules" / "deep" / "run.sh").stat().st_mode & 0o777 == 0o750
    assert (again / "empty").is_dir()


def test_what_no_workspace_may_hold_is_left_out_and_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # From there: a socket's whole path may be longer than one can be.
    monkeypatch.chdir(folder)
    (folder / "kept").write_text("x")
    (folder / "cache").symlink_to("/var/cache/providers")
    (folder / "up").symlink_to("../../etc")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        again, said = left(folder)
    assert [path.name for path in again.iterdir()] == ["kept"]
    assert len(said) == 4
    assert "left out of the workspace: 'cache' links to '/var/cache/providers', an absolute path" in said
    assert "left out of the workspace: 'pipe' is a socket, a pipe or a device" in said


def test_links_into_what_a_host_mounts_are_kept_where_the_next_host_has_it_too(folder: Path) -> None:
    (folder / "provider").symlink_to("/cache/providers/tool")
    (folder / "near").symlink_to("/cached/tool")
    (folder / "round").symlink_to("/cache/../etc/passwd")
    (folder / "kept").write_text("x")
    said: list[str] = []
    archive, bounds = folder.parent / "left.tar.gz", Bounds(outside=("/cache",))
    pack(folder, {}, archive, os.geteuid(), bounds, said.append)
    assert sorted(said) == [
        f"left out of the workspace: '{name}' links to '{target}', an absolute path"
        for name, target in (("near", "/cached/tool"), ("round", "/cache/../etc/passwd"))
    ]
    again, without = folder.parent / "again", folder.parent / "without"
    again.mkdir()
    without.mkdir()
    unpack(archive, again, bounds)
    assert os.readlink(again / "provider") == "/cache/providers/tool"
    # A host that has no such mount goes on without the link, where somebody hears of it.
    said.clear()
    unpack(archive, without, Bounds(), said.append)
    assert [path.name for path in without.iterdir()] == ["kept"]
    assert said == ["left out of the workspace: 'provider' links to '/cache/providers/tool', an absolute path"]
    with pytest.raises(PreparationFailed, match="an absolute path"):
        unpack(archive, folder.parent / "refused", Bounds())


def test_what_belongs_to_others_is_not_read(folder: Path) -> None:
    """A hard link may lead to a file that only the agent can read."""
    (folder / "own").write_text("x")
    said: list[str] = []
    archive = folder.parent / "left.tar.gz"
    pack(folder, {}, archive, os.geteuid() + 1, Bounds(), said.append)
    assert said == ["left out of the workspace: 'own' is not the command's own"]


def test_links_on_the_way_lead_nowhere(folder: Path) -> None:
    """A folder is walked, a link to one is not."""
    (folder / "real").mkdir()
    (folder / "real" / "file").write_text("x")
    (folder / "alias").symlink_to("real")
    again, said = left(folder)
    assert (again / "alias").is_symlink()
    assert (again / "alias" / "file").read_text() == "x"
    assert said == []


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        (Bounds(packed_bytes=1000), "the packed workspace exceeds 1000 bytes"),
        (Bounds(unpacked_bytes=1000), "more than 1000 bytes unpacked"),
        (Bounds(members=1), "more than 1 members"),
    ],
)
def test_one_that_is_too_large_is_not_left(folder: Path, bounds: Bounds, told: str) -> None:
    for name in ("a", "b"):
        (folder / name).write_bytes(os.urandom(4000))
    with pytest.raises(PackingFailed, match=told):
        left(folder, bounds)


def test_one_that_cannot_be_read_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a").write_text("x")

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(PackingFailed, match="cannot pack the workspace: Input/output error"):
        left(folder)


def test_environment_and_outputs_travel_beside_it_and_only_as_the_agent_writes_them(folder: Path) -> None:
    (folder / INPUT_ENVIRONMENT).write_text('{"PATH": "/evil"}')
    (folder / LEFT_OUTPUTS).write_text("forged")
    again, _ = left(folder, beside={INPUT_ENVIRONMENT: b'{"A": "1"}', LEFT_OUTPUTS: b'{"vpc": "x"}'})
    target = folder.parent / "outputs.json"
    take_outputs(again, target)
    assert target.read_text() == '{"vpc": "x"}'
    assert take_environment(again) == {"A": "1"}
    assert list(again.iterdir()) == []


def test_memory_stays_bounded_whatever_is_packed(folder: Path) -> None:
    with (folder / "large").open("wb") as file:
        for _ in range(48):
            file.write(os.urandom(1 << 20))
    archive = folder.parent / "left.tar.gz"
    tracemalloc.start()
    try:
        packed = pack(folder, {}, archive, os.geteuid(), Bounds(), print)
        for _ in read_pieces(archive):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert packed.bytes > 48 << 20
    assert peak < 8 << 20
