"""A command and an environment that come by the bucket, and what a system can pass on."""

import asyncio
import hashlib
import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest
from quaymaster.domain.execve import MAX_STRING_BYTES, MAX_TOTAL_BYTES, total_bytes
from quaymaster.domain.messages import Assign, Grants, PostGrant, PutGrant, WorkspaceGrant
from quaymaster_worker.errors import PreparationFailed
from quaymaster_worker.workspace.spec import check_fits, with_spec

URL = "https://bucket.example.com/secret-grant"
GRANTS = Grants(
    chunks=PostGrant(url=URL, fields={}, key_prefix="chunks/", max_bytes=1),
    log=PutGrant(url=URL),
    log_end=PutGrant(url=URL),
    expires_in_seconds=60,
)
LARGE = {"command": ["echo", "界" * 30_000], "environment": {"A": "b"}}


def assignment(sha256: str | None, **fields: object) -> Assign:
    found = {
        "run": "R1",
        "attempt": 1,
        "type": "task",
        "phase": "perform",
        "log_timeout_seconds": 60,
        "run_timeout_seconds": 60,
        "prepare_timeout_seconds": 60,
        "warning_seconds": 1,
        "grants": GRANTS,
        "spec": WorkspaceGrant(url=URL, sha256=sha256),
    }
    return Assign.model_validate(found | fields)


def fetched(folder: Path, body: bytes, assign: Assign) -> Assign:
    async def get() -> Assign:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=httpx.ByteStream(body)))
        async with httpx.AsyncClient(transport=transport) as client:
            return await with_spec(client, assign, folder)

    return asyncio.run(get())


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_the_command_is_the_one_in_the_bucket(tmp_path: Path) -> None:
    body = json.dumps(LARGE, ensure_ascii=False).encode()
    found = fetched(tmp_path, body, assignment(digest(body)))
    assert (found.command, found.environment) == (LARGE["command"], LARGE["environment"])
    assert list(tmp_path.iterdir()) == []


def test_an_assignment_that_holds_its_command_fetches_nothing(tmp_path: Path) -> None:
    plain = assignment(None, spec=None, command=["true"])
    assert fetched(tmp_path, b"not asked for", plain) is plain


@pytest.mark.parametrize(
    ("body", "sha256", "note"),
    [
        (b"{}", None, "the command in the bucket is not as it was written"),
        (b'{"command": [], "environment": {}}', None, "the command in the bucket is not as it was written"),
        (b'{"command": ["a"], "environment": {"1": "secret"}}', None, "the command in the bucket is not as it was"),
        (b"secret", None, "the command in the bucket is not as it was written"),
        (b'{"command": ["a"], "environment": {}}', "0" * 64, "the command has digest "),
        (b"x" * (MAX_TOTAL_BYTES + 1), None, f"the command exceeds {MAX_TOTAL_BYTES} bytes"),
    ],
)
def test_what_is_not_the_command_fails_the_preparation(
    tmp_path: Path, body: bytes, sha256: str | None, note: str
) -> None:
    with pytest.raises(PreparationFailed) as failed:
        fetched(tmp_path, body, assignment(sha256))
    assert failed.value.note.startswith(note)
    assert "secret" not in failed.value.note


def test_what_fits_can_be_passed_on_and_one_byte_more_cannot() -> None:
    """The bounds are the system's own."""
    value = "x" * (MAX_STRING_BYTES - len("BIG="))
    check_fits(["true"], {"BIG": value})
    assert subprocess.run(["true"], env={**os.environ, "BIG": value}, check=True).returncode == 0
    with pytest.raises(PreparationFailed) as failed:
        check_fits(["true"], {"BIG": value + "x"})
    assert failed.value.note == "environment.BIG has 131072 bytes; a command can be passed 131071 in one"
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["true"], env={**os.environ, "BIG": value + "x"}, check=True)


def test_the_sum_is_bounded_too() -> None:
    many = {f"N{number:02}": "界" * 30_000 for number in range(11)}
    assert total_bytes(["true"], many) < MAX_TOTAL_BYTES
    check_fits(["true"], many)
    assert subprocess.run(["true"], env={**os.environ, **many}, check=True).returncode == 0
    with pytest.raises(PreparationFailed, match=f"a command can be passed {MAX_TOTAL_BYTES}"):
        check_fits(["true"], {**many, "MORE": "界" * 30_000})


PHASES = {
    "command": [],
    "environment": {"A": "b"},
    "phases": [
        {"command": [name], "environment": {"OF": name}, "before": [["init"]], "after": []}
        for name in ("plan", "apply", "check")
    ],
    "on_end": [["tidy"]],
}


def phased(first: int, *names: str) -> dict[str, object]:
    orders = [{"name": name, "log_timeout_seconds": 1, "run_timeout_seconds": 2} for name in names]
    return {"first": first, "phases": orders}


def test_phases_take_what_the_bucket_has_for_them(tmp_path: Path) -> None:
    body = json.dumps(PHASES).encode()
    found = fetched(tmp_path, body, assignment(digest(body), **phased(1, "apply", "check")))
    assert [(one.name, one.command, one.environment, one.before) for one in found.phases] == [
        ("apply", ["apply"], {"OF": "apply"}, [["init"]]),
        ("check", ["check"], {"OF": "check"}, [["init"]]),
    ]
    assert (found.on_end, found.environment, found.spec) == ([["tidy"]], {"A": "b"}, None)
    assert {one.run_timeout_seconds for one in found.phases} == {2}


def test_phases_that_the_bucket_does_not_have_fail_the_preparation(tmp_path: Path) -> None:
    body = json.dumps(PHASES).encode()
    with pytest.raises(PreparationFailed, match="not as it was written"):
        fetched(tmp_path, body, assignment(digest(body), **phased(2, "check", "more")))
