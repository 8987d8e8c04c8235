"""A packed workspace is unpacked without trusting it."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from quaymaster.domain.workspace_rules import Bounds
from quaymaster_worker.errors import PreparationFailed
from quaymaster_worker.workspace.unpacking import unpack

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> Member:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    return member, content


def special(name: str, kind: bytes, target: str = "") -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def pack(path: Path, *members: Member) -> Path:
    with tarfile.open(path / "w.tar.gz", "w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return path / "w.tar.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


def test_files_folders_and_links_inside_are_unpacked(tmp_path: Path, folder: Path) -> None:
    archive = pack(
        tmp_path,
        special("./", tarfile.DIRTYPE),
        special("modules/deep", tarfile.DIRTYPE),
        file("main.tf", b"resource"),
        file("modules/deep/run.sh", b"#!/bin/sh", 0o755),
        special("modules/deep/up.tf", tarfile.SYMTYPE, "../../main.tf"),
        special("same.tf", tarfile.LNKTYPE, "main.tf"),
    )
    unpack(archive, folder, Bounds())
    assert (folder / "modules/deep/up.tf").read_text() == "resource"
    assert (folder / "same.tf").read_text() == "resource"
    assert os.access(folder / "modules/deep/run.sh", os.X_OK)


@pytest.mark.parametrize("mtime", ["99999999999999999999", "1e300", "-1e300"])
def test_a_date_that_no_system_has_fails_the_preparation(tmp_path: Path, folder: Path, mtime: str) -> None:
    member, content = file("main.tf")
    member.pax_headers = {"mtime": mtime}
    with pytest.raises(PreparationFailed, match="cannot unpack the workspace: "):
        unpack(pack(tmp_path, (member, content)), folder, Bounds())


def test_dangerous_modes_are_dropped(tmp_path: Path, folder: Path) -> None:
    hard = tarfile.TarInfo("hard")
    hard.type, hard.linkname, hard.mode, hard.uid = tarfile.LNKTYPE, "other", 0o6777, 4711
    unpack(pack(tmp_path, file("tool", mode=0o6777), file("other"), (hard, b"")), folder, Bounds())
    for name in ("tool", "hard"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o777
        assert (folder / name).stat().st_uid == os.geteuid()


def test_modes_and_times_are_kept(tmp_path: Path, folder: Path) -> None:
    closed, inside = special("closed", tarfile.DIRTYPE), file("closed/x", mode=0o440)
    closed[0].mode, closed[0].mtime, inside[0].mtime = 0o500, 1_000_000_000.25, 2.5
    unpack(pack(tmp_path, closed, inside), folder, Bounds())
    assert stat.S_IMODE((folder / "closed").stat().st_mode) == 0o500
    assert stat.S_IMODE((folder / "closed/x").stat().st_mode) == 0o440
    assert ((folder / "closed").stat().st_mtime, (folder / "closed/x").stat().st_mtime) == (1_000_000_000.25, 2.5)


@pytest.mark.parametrize(
    "members",
    [
        [file("/etc/owned")],
        [file("../owned")],
        [file("a/../../owned")],
        [special("link", tarfile.SYMTYPE, "/etc"), file("link/owned")],
        [special("link", tarfile.SYMTYPE, "..")],
        [special("a/link", tarfile.SYMTYPE, "../../owned")],
        [special("here", tarfile.SYMTYPE, "."), file("here/x")],
        [special("d/e/up", tarfile.SYMTYPE, "../.."), special("out", tarfile.SYMTYPE, "d/e/up/../../../owned")],
        [special("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [special("hard", tarfile.LNKTYPE, "../owned")],
        [special("link", tarfile.SYMTYPE, "target"), special("hard", tarfile.LNKTYPE, "link/x")],
        [special("pipe", tarfile.FIFOTYPE)],
        [special("disk", tarfile.BLKTYPE)],
        [special("tty", tarfile.CHRTYPE)],
        [file("x" * 2000)],
    ],
)
def test_what_leads_outside_or_is_no_plain_file_is_refused(tmp_path: Path, folder: Path, members: list[Member]) -> None:
    with pytest.raises(PreparationFailed) as refused:
        unpack(pack(tmp_path, *members), folder, Bounds())
    assert refused.value.reason == "workspace"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.tar.gz", "workspace"]


@pytest.mark.parametrize(
    ("bounds", "members"),
    [
        (Bounds(unpacked_bytes=10), [file("bomb", b"0" * 11)]),
        (Bounds(members=2), [file("a"), file("b"), file("c")]),
    ],
)
def test_a_workspace_beyond_its_bounds_is_refused(
    tmp_path: Path, folder: Path, bounds: Bounds, members: list[Member]
) -> None:
    with pytest.raises(PreparationFailed, match="more than"):
        unpack(pack(tmp_path, *members), folder, bounds)


@pytest.mark.parametrize("content", [b"", b"not gzip", b"\x1f\x8b\x08\x00"])
def test_what_is_no_archive_is_refused(tmp_path: Path, folder: Path, content: bytes) -> None:
    (tmp_path / "w.tar.gz").write_bytes(content)
    with pytest.raises(PreparationFailed):
        unpack(tmp_path / "w.tar.gz", folder, Bounds())


def test_a_truncated_archive_is_refused(tmp_path: Path, folder: Path) -> None:
    archive = pack(tmp_path, file("random", os.urandom(100_000)))
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(PreparationFailed):
        unpack(archive, folder, Bounds())
