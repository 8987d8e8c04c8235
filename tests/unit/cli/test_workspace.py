"""`--dir`: what is chosen, what is refused before upload, and that the worker unpacks what was packed."""

import io
import os
import socket
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from quaymaster.domain.messages import Endpoint, PoolToken
from quaymaster.domain.workspace_rules import Bounds
from quaymaster_cli.errors import CliError, Usage
from quaymaster_cli.workspace import Wish, pack
from quaymaster_cli.workspace.progress import Progress
from quaymaster_sealing.keys import generate_key
from quaymaster_worker.workspace.unpacking import unpack


def names(folder: Path, **wish: object) -> list[str]:
    """What is packed of a folder."""
    file = io.BytesIO()
    pack(Wish(folder=folder, **wish), {}, file, lambda _text: None)  # pyright: ignore[reportArgumentType]
    with tarfile.open(fileobj=file) as tar:
        return tar.getnames()


def grow(folder: Path, *paths: str) -> None:
    """Make files, and folders where a path ends in `/`."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            (folder / path).mkdir(exist_ok=True)
        else:
            (folder / path).write_text(path)


def git(folder: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-c", "protocol.file.allow=always", *words],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def test_in_a_checkout_it_is_what_git_would_take(folder: Path) -> None:
    git(folder, "init", "-q")
    grow(folder, ".gitignore", "tracked", "gone", "new", ".venv/lib/x", "sub/tracked", "sub/new", "sub/x.log", "empty/")
    grow(folder, "forced.log", ".quaymasterignore", "docs/big")
    (folder / ".gitignore").write_text(".venv\n*.log\n")
    (folder / ".quaymasterignore").write_text("/docs/\n")
    git(folder, "add", ".gitignore", "tracked", "gone", "sub/tracked", "docs")
    git(folder, "add", "-f", "forced.log")
    (folder / "gone").unlink()
    taken = [".gitignore", ".quaymasterignore", "forced.log", "new", "sub", "sub/new", "sub/tracked", "tracked"]
    assert names(folder) == taken
    assert names(folder / "sub") == ["new", "tracked"]
    assert names(folder / ".venv") == ["lib", "lib/x"], "an ignored folder that was named is what is wanted"
    assert {".venv/lib/x", "docs/big", "sub/x.log", "empty"} < set(names(folder, everything=True))
    assert not [name for name in names(folder, everything=True) if name.startswith(".git/")]
    assert ".git/HEAD" in names(folder, git=True)


def test_of_submodules_and_checkouts_inside_it_is_what_git_would_take_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    git(tmp_path / "other", "init", "-q")
    grow(tmp_path / "other", "theirs")
    git(tmp_path / "other", "add", ".")
    git(tmp_path / "other", "commit", "-qm", "x")
    git(folder, "init", "-q")
    git(folder, "submodule", "--quiet", "add", str(tmp_path / "other"), "module")
    grow(folder, "module/junk", "module/.gitignore", "nested/mine")
    (folder / "module/.gitignore").write_text("junk\n")
    git(folder / "nested", "init", "-q")
    assert names(folder) == [
        ".gitmodules", "module", "module/.gitignore", "module/theirs", "nested", "nested/mine",
    ]  # fmt: skip


def test_a_hook_of_another_checkout_does_not_lead_astray(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "another")
    git(folder, "init", "-q")
    grow(folder, "mine")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "another"))
    assert names(folder) == ["mine"]


def test_elsewhere_ignore_files_are_honoured_in_every_folder(folder: Path) -> None:
    grow(folder, "a.log", "keep.log", "build/x", "deep/build/x", "deep/only", "deep/a.log", "out/keep.log", "empty/")
    (folder / ".gitignore").write_bytes(b"\xef\xbb\xbf*.log\r\n/build/\r\nout\r\n")
    (folder / ".quaymasterignore").write_text("!keep.log\n")
    (folder / "deep/.gitignore").write_text("!a.log\nonly\n")
    assert names(folder) == [
        ".gitignore", ".quaymasterignore", "deep", "deep/.gitignore", "deep/a.log", "deep/build", "deep/build/x",
        "empty", "keep.log",
    ]  # fmt: skip
    (folder / ".quaymasterignore").write_text("fine\n[z-a]\n")
    with pytest.raises(CliError, match=r"quaymasterignore, line 2, is not a pattern: '\[z-a\]'"):
        names(folder)


def absolute(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/python").symlink_to("/usr/bin/python3")


def roundabout(folder: Path) -> None:
    (folder / "link").symlink_to("a/../b")


def outside(folder: Path) -> None:
    (folder / "link").symlink_to("../here/x")


def long(folder: Path) -> None:
    at = os.open(folder, os.O_RDONLY)
    for _ in range(7):
        os.mkdir("x" * 240, dir_fd=at)
        at = os.open("x" * 240, os.O_RDONLY, dir_fd=at)


def huge(folder: Path) -> None:
    for name in ("one", "two"):
        with (folder / name).open("wb") as file:
            file.truncate(5 << 30)


def clashing(folder: Path) -> None:
    (folder / ".quaymaster-environment.json").write_text("{}")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (absolute, "'sub/python' links to '/usr/bin/python3', an absolute path"),
        (roundabout, "'link' links to 'a/../b', which has '..' behind a name"),
        (outside, "'link' links to '../here/x', outside the workspace"),
        (long, "has a path with NUL or of over 1024 bytes"),
        (huge, "more than 8589934592 bytes unpacked"),
        (clashing, "a name that workspaces keep for themselves"),
    ],
)
def test_what_the_worker_would_refuse_is_refused_by_name_before_anything_is_packed(
    folder: Path, wrong: Callable[[Path], None], said: str
) -> None:
    wrong(folder)
    into = io.BytesIO()
    with pytest.raises(Usage) as refused:
        pack(Wish(folder=folder), {}, into, lambda _text: None)
    assert said in str(refused.value)
    assert into.getvalue() == b""


def test_too_many_members_are_refused(folder: Path) -> None:
    grow(folder, "a", "b", "c")
    with pytest.raises(Usage, match="more than 2 members"):
        pack(Wish(folder=folder), {}, io.BytesIO(), lambda _text: None, Bounds(members=2))


def test_several_problems_are_told_at_once(folder: Path) -> None:
    for name in "abcde":
        (folder / name).symlink_to("/etc")
    with pytest.raises(Usage, match=r"'a' links.*; 'b' links.*; 'c' links.*; and more$"):
        names(folder)


def test_what_is_neither_file_folder_nor_link_is_left_out_with_a_notice(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    grow(folder, "file")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
    told: list[str] = []
    file = io.BytesIO()
    pack(Wish(folder=folder), {}, file, told.append)
    with tarfile.open(fileobj=file) as tar:
        assert tar.getnames() == ["file"]
    assert told == [f"left out: {folder / name} is a socket, a pipe or a device" for name in ("pipe", "socket")]


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_what_cannot_be_read_is_told_by_name(closed: str) -> None:
    # Below the system's own temporary folder, where a user without rights may go.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        grow(folder, "file", "folder/x")
        (folder / closed).chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(CliError, match=f"^--dir: cannot read {folder / closed}: Permission denied$"):
                names(folder)
        finally:
            os.seteuid(user)
            (folder / closed).chmod(0o700)


KEY = generate_key().decode()
TOKEN = PoolToken(
    namespace="quaymaster", pool_id="01K0", mqtt=[Endpoint(host="h")],
    certificate="-----BEGIN CERTIFICATE-----\n" + "A" * 900 + "\n-----END CERTIFICATE-----\n",
)  # fmt: skip


def base64(text: str) -> str:
    import base64 as encoding

    return encoding.encodebytes(text.encode()).decode()


@pytest.mark.parametrize(
    "content",
    [KEY, KEY.replace("\n", "\\n"), f"A=b\nKEY='{KEY}'\n", base64(KEY), base64(KEY).replace("\n", ""),
     KEY.replace("\n", "\r\n"), KEY.replace("BEGIN ", "BEGIN RSA ")],
)  # fmt: skip
def test_a_private_key_is_never_packed_unless_it_is_said_to_be_no_pools(
    folder: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(folder, "sub/red.pem")
    (folder / "sub/red.pem").write_text(content)
    with pytest.raises(Usage) as refused:
        names(folder, everything=True)
    assert str(refused.value).startswith(f"--dir: {folder / 'sub/red.pem'} holds a private key: ")
    assert content[100:120] not in str(refused.value)
    assert names(folder, keys=(folder / "sub/red.pem",)) == ["sub", "sub/red.pem"]
    monkeypatch.setenv("QUAYMASTER_POOL_PRIVATE_KEY_FILE", str(folder / "sub/red.pem"))
    with pytest.raises(Usage, match="holds a private key, which no workspace may carry"):
        names(folder, keys=(folder / "sub/red.pem",))
    (folder / ".quaymasterignore").write_text("*.pem\n")
    assert names(folder) == [".quaymasterignore", "sub"]


def test_a_pools_token_is_never_packed(folder: Path) -> None:
    text = TOKEN.model_dump_json(by_alias=True)
    for content in (text, base64(text), f"QUAYMASTER_TOKEN={base64(text)}".replace("\n", "")):
        (folder / "red.token").write_text(content)
        with pytest.raises(Usage, match=r"red\.token holds a pool's token, which no workspace may carry"):
            names(folder, keys=(folder / "red.token",))


def test_what_only_looks_like_a_secret_is_packed(folder: Path) -> None:
    (folder / "readme").write_text("-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n")
    (folder / "cert.pem").write_text(TOKEN.certificate)
    (folder / "pool.json").write_text('{"pool_id": "x"}')
    (folder / "jwt").write_text("ey" + "A" * 500)
    assert names(folder) == ["cert.pem", "jwt", "pool.json", "readme"]


def test_the_same_tree_gives_the_same_bytes(folder: Path) -> None:
    grow(folder, "b", "a", "sub/c")
    packed = [pack(Wish(folder=folder), {"A": "b"}, io.BytesIO(), lambda _text: None) for _ in range(2)]
    assert packed[0].sha256 == packed[1].sha256


def test_progress_is_told_from_the_second_second_on(capfd: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with Progress("packing", 3 << 20, total_files=7, clock=lambda: now) as progress:
        progress.add(1 << 20, files=3)
        now = 1.5
        progress.add(1 << 20, files=1)
        now = 2.0
        progress.add(1 << 19)
    assert capfd.readouterr().err == "packing: 2.0 MiB of 3.0 MiB, 4 of 7 files\n"


# ---- Trees -----------------------------------------------------------------------------------------------------------

# As bytes, as a file system has them: also what is no UTF-8, line ends, and names longer than a tar header takes.
_NAMES = st.binary(min_size=1, max_size=120).filter(
    lambda name: name not in (b".", b"..") and not set(name) & set(b"/\0")
)
# Parts of a second that both a float and whole nanoseconds hold exactly.
_TIMES = st.integers(-64 * 10**9, 64 * 10**10).map(lambda count: count / 64)
_FILES = st.tuples(st.binary(max_size=300), st.sampled_from([0o644, 0o755, 0o600, 0o400, 0o777, 0o444]), _TIMES)
_LINKS = st.one_of(st.sampled_from(["x", "../x", "/etc/passwd", "a/b", "a/../b", "../../x", "."]), st.just("sibling"))
_TREES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(_FILES, _LINKS),
    lambda inner: st.tuples(
        st.dictionaries(_NAMES, inner, max_size=4), st.sampled_from([0o755, 0o700, 0o500, 0o777]), _TIMES
    ),
    max_leaves=12,
)


def plant(at: bytes, tree: Any) -> None:
    """Make what was drawn: a file's content, a folder's entries, or a link's target."""
    if isinstance(tree, str):
        os.symlink(tree, at)
        return
    content, mode, time = tree
    if isinstance(content, bytes):
        with open(at, "wb") as file:
            file.write(content)
    else:
        os.mkdir(at)
        first: bytes = b""
        for name, inner in content.items():
            if inner == "sibling" and first:
                os.link(os.path.join(at, first), os.path.join(at, name))
            else:
                plant(os.path.join(at, name), inner)
            if not first and not os.path.islink(os.path.join(at, name)) and os.path.isfile(os.path.join(at, name)):
                first = name
    os.chmod(at, mode)
    os.utime(at, (time, time))


def look(root: bytes) -> dict[bytes, object]:
    """Everything below a folder: kinds, modes, times, contents, links, and which files are one."""
    found: dict[bytes, object] = {}
    inodes: dict[int, bytes] = {}
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = os.path.join(folder, name)
            at, held = os.lstat(path), os.path.relpath(path, root)
            if stat.S_ISLNK(at.st_mode):
                found[held] = os.readlink(path)
                continue
            same = inodes.setdefault(at.st_ino, held) if stat.S_ISREG(at.st_mode) else held
            content = Path(os.fsdecode(path)).read_bytes() if stat.S_ISREG(at.st_mode) else None
            found[held] = (stat.S_IFMT(at.st_mode), stat.S_IMODE(at.st_mode), at.st_mtime, content, same)
    return found


def everything_in(entries: Mapping[bytes, Any]) -> Iterator[Any]:
    """All that was drawn."""
    for inner in entries.values():
        yield inner
        if isinstance(inner, tuple) and isinstance(entries := cast(Any, inner)[0], dict):
            yield from everything_in(cast(Any, entries))


def open_all(root: Path) -> None:
    """So that it can be removed."""
    for folder, _folders, _files in os.walk(root):
        os.chmod(folder, 0o700)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entries=st.dictionaries(_NAMES, _TREES, max_size=5))
@example(entries={b"\xff\n" + b"x" * 110: (b"", 0o600, 1.25), b"l": "x", b"d": ({}, 0o500, 0.0)})
@example(entries={b"d": ({b"a": (b"1", 0o644, 2.5), b"b": "sibling", b"c": "../d/a"}, 0o777, -5.25)})
def test_a_tree_is_refused_before_upload_or_comes_out_as_it_went_in(entries: dict[bytes, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        source, target, archive = (Path(name) / part for part in ("source", "target", "archive"))
        source.mkdir()
        target.mkdir()
        try:
            for entry, tree in entries.items():
                plant(os.path.join(os.fsencode(source), entry), tree)
            with archive.open("w+b") as file, suppress(Usage):
                pack(Wish(folder=source, everything=True), {}, file, lambda _text: None)
            event("packed" if archive.stat().st_size else "refused")
            if archive.stat().st_size:
                unpack(archive, target, Bounds())
                assert look(os.fsencode(target)) == look(os.fsencode(source))
            else:
                assert any(isinstance(inner, str) for inner in everything_in(entries)), "only links can be wrong here"
        finally:
            open_all(Path(name))
