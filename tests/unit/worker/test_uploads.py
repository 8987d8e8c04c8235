"""What an answer of the object store means to the agent. S3 tells by its code, not by its status, what a 400 is."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from quaymaster.domain.messages import PostGrant, WorkspaceGrant
from quaymaster.domain.workspace_rules import Bounds
from quaymaster_worker.connection.uploads import LONGEST_ERROR, PresignedStore
from quaymaster_worker.errors import GrantRefused, PreparationFailed, UploadError, UploadFailed, UploadRefused
from quaymaster_worker.workspace.unpacking import fetch

URL = "https://bucket.example.com/secret-grant"
GRANT = PostGrant(url=URL, fields={"policy": "secret-grant"}, key_prefix="chunks/a/", max_bytes=100)


def error(code: str) -> bytes:
    """The error document of S3's reference."""
    declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f"{declaration}<Error><Code>{code}</Code><Message>secret-grant</Message></Error>".encode()


def post(status: int, body: bytes, stored: Callable[[float], None] = lambda at: None) -> None:
    async def send() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(status, content=body))
        async with httpx.AsyncClient(transport=transport) as client:
            await PresignedStore(lambda: client, lambda: 7.0, stored).post(GRANT, "1", b"lines")

    asyncio.run(send())


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "ExpiredToken", GrantRefused),
        (400, "TokenRefreshRequired", GrantRefused),
        (400, "InvalidToken", GrantRefused),
        (403, "AccessDenied", GrantRefused),
        (403, "", GrantRefused),
        (400, "RequestTimeout", UploadFailed),
        (400, "IncompleteBody", UploadFailed),
        (400, "BadDigest", UploadFailed),
        (503, "SlowDown", UploadFailed),
        (500, "InternalError", UploadFailed),
        (409, "OperationAborted", UploadFailed),
        (307, "TemporaryRedirect", UploadFailed),
        (400, "EntityTooLarge", UploadRefused),
        (400, "", UploadRefused),
        (404, "NoSuchBucket", UploadRefused),
    ],
)
def test_a_refusal_is_told_by_its_code(status: int, code: str, expected: type[UploadError]) -> None:
    stored: list[float] = []
    with pytest.raises(UploadError) as found:
        post(status, error(code) if code else b"", stored.append)
    assert type(found.value) is expected
    assert str(found.value) == f"the store answered {status} {code}".rstrip()
    assert stored == []


@pytest.mark.parametrize(
    "body",
    [
        b"<Code></Code>",
        b"<Code>Expired Token</Code>",
        b"ExpiredToken",
        b"\xff\xfe",
        b" " * LONGEST_ERROR + error("ExpiredToken"),
    ],
)
def test_what_is_no_error_document_is_told_by_its_status(body: bytes) -> None:
    with pytest.raises(UploadRefused, match=r"^the store answered 400$"):
        post(400, body)


def test_what_was_stored_counts_from_when_it_was_sent() -> None:
    stored: list[float] = []
    post(204, b"", stored.append)
    assert stored == [7.0]


def fetched(folder: Path, monkeypatch: pytest.MonkeyPatch, *answers: httpx.Response) -> bytes:
    left = iter(answers)

    async def no_pause(_seconds: float) -> None:
        """What passes is tried again at once here."""

    async def get() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(lambda request: next(left))) as client:
            await fetch(client, WorkspaceGrant(url=URL), folder / "w", Bounds())

    monkeypatch.setattr("quaymaster_worker.workspace.unpacking.asyncio.sleep", no_pause)
    asyncio.run(get())
    return (folder / "w").read_bytes()


@pytest.mark.parametrize("code", ["RequestTimeout", "IncompleteBody"])
def test_a_workspace_is_asked_for_again_where_a_400_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    passing = httpx.Response(400, content=error(code))
    assert fetched(tmp_path, monkeypatch, passing, httpx.Response(200, stream=httpx.ByteStream(b"packed"))) == b"packed"


def test_a_workspace_whose_grant_has_expired_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = httpx.Response(400, content=error("ExpiredToken"))
    with pytest.raises(PreparationFailed) as found:
        fetched(tmp_path, monkeypatch, expired)
    assert found.value.note == "cannot fetch the workspace: the store answered 400 ExpiredToken"
