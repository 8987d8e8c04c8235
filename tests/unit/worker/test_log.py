"""The log's way from bytes to objects: lines, chunks, the spool, and a store that fails."""

import asyncio
import gzip
import hashlib
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quaymaster.domain.messages import Grants, Outcome, PostGrant, PutGrant
from quaymaster_cli.logs.reader import read_line
from quaymaster_worker.errors import GrantRefused, UploadError, UploadFailed, UploadRefused
from quaymaster_worker.log.chunks import SMALLEST_CHUNK, ChunkPolicy, Compressor, Sum
from quaymaster_worker.log.lines import LONGEST_LINE, LineEncoder, LineSplitter, NoMask
from quaymaster_worker.log.log_writer import LogTerms, LogWriter
from quaymaster_worker.log.phase_log import PhaseLog
from quaymaster_worker.log.spool import Spool

FINISHED = Outcome(end="FINISHED", exit_code=0)


def grants(tag: str = "first") -> Grants:
    return Grants(
        chunks=PostGrant(url=f"post-{tag}", fields={}, key_prefix="c/", max_bytes=10 << 20),
        log=PutGrant(url="log"),
        log_end=PutGrant(url="end"),
        expires_in_seconds=1800,
    )


async def until(holds: Callable[[], object]) -> None:
    """Let the log's own tasks go on until something is so."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


@dataclass
class FakeStore:
    """Keeps objects; fails as often as it is told to."""

    failures: list[UploadError] = field(default_factory=list[UploadError])
    valid: str = "post-first"
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])

    async def post(self, grant: PostGrant, name: str, body: bytes) -> None:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        if grant.url != self.valid:
            raise GrantRefused("403")
        self.objects[name] = body

    async def put(self, grant: PutGrant, size: int, body: Callable[[], Iterable[bytes]]) -> None:
        content = b"".join(body())
        assert len(content) == size
        if self.failures:
            raise self.failures.pop(0)
        self.objects.setdefault(grant.url, content)

    @property
    def chunks(self) -> list[bytes]:
        return [body for name, body in self.objects.items() if name.startswith("perform-")]


def messages(body: bytes) -> list[tuple[str, str]]:
    return [(line["stream"], line["msg"]) for line in map(json.loads, gzip.decompress(body).splitlines())]


def make_log(
    store: FakeStore, folder: Path, cap: int = 1 << 30, on_refused: Callable[[], None] | None = None
) -> PhaseLog:
    terms = LogTerms(run="R", attempt=1, phase="perform", cap_bytes=cap, spool=folder / "spool")
    clock = asyncio.get_running_loop().time
    refused = on_refused or (lambda: None)
    log = PhaseLog(terms, grants(), store, mask=NoMask(), random=Random(1), clock=clock, on_refused=refused)
    log.begin()
    return log


@given(text=st.text(max_size=200), cuts=st.lists(st.integers(0, 800), max_size=10))
def test_lines_do_not_depend_on_how_the_bytes_were_cut(text: str, cuts: list[int]) -> None:
    data, splitter, lines = text.encode(), LineSplitter(), list[str]()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        lines += splitter.feed(data[start:end])
    lines += splitter.flush(final=True)
    *whole, rest = text.split("\n")
    assert lines == [f"{line}\n" for line in whole] + [rest] * bool(rest)


@given(text=st.text("ab\r\n", max_size=60), pauses=st.lists(st.integers(0, 60), max_size=6))
def test_all_pieces_joined_are_what_the_command_wrote(text: str, pauses: list[int]) -> None:
    splitter, pieces = LineSplitter(), list[str]()
    for start, end in pairwise(sorted({0, len(text), *(pause for pause in pauses if pause < len(text))})):
        pieces += splitter.feed(text[start:end].encode()) + splitter.flush()
    encoder = LineEncoder(datetime(2026, 1, 2, tzinfo=UTC), "perform", "output")
    lines = [read_line(encoder.encode(piece).rstrip(b"\n")) for piece in pieces]
    assert "".join(line.text for line in lines) == text
    assert ["partial" not in json.loads(line.raw) for line in lines] == [piece.endswith("\n") for piece in pieces]


def test_an_overlong_line_is_split_and_nothing_of_it_is_lost() -> None:
    splitter = LineSplitter()
    lines = splitter.feed(b"x" * (3 * LONGEST_LINE + 5)) + splitter.feed(b"y\nz") + splitter.flush()
    assert [len(line) for line in lines] == [LONGEST_LINE] * 3 + [7, 1]


def test_broken_utf8_is_replaced_and_half_a_character_waits_for_its_rest() -> None:
    splitter = LineSplitter()
    assert splitter.feed("é".encode()[:1]) == []
    assert splitter.feed("é".encode()[1:] + b"\xff\n") == ["é�\n"]


@given(st.lists(st.binary(min_size=1, max_size=5000), min_size=1, max_size=8))
def test_every_chunk_is_a_gzip_file_and_all_together_are_one_member(
    parts: list[bytes],
) -> None:
    path = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
    spool_path = path / f"quaymaster-test-spool-{id(parts)}"
    spool, compressor, total = Spool(spool_path), Compressor(), Sum()
    try:
        for part in parts:
            compressor.add(part)
            total = total.add(part)
            chunk = spool.append(compressor.cut())
            assert gzip.decompress(spool.read(chunk)) == part
        whole = spool.close_log(total)
        content = b"".join(spool.whole_log())
        one_member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        assert one_member.decompress(content) == b"".join(parts)
        assert (one_member.eof, one_member.unused_data) == (True, b"")
        assert (whole.size, whole.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    finally:
        spool.close()
        spool_path.unlink()


def test_chunks_come_at_once_first_then_ever_more_rarely_and_each_second_while_watched() -> None:
    policy = ChunkPolicy(now=0)
    assert policy.due_at(0) == pytest.approx(0.1)
    policy.was_cut(0.1, 100)
    assert policy.due_at(2) == pytest.approx(1.1)
    policy.was_cut(20, 100)
    assert policy.due_at(21) == pytest.approx(30.5)
    policy.was_cut(500, 100)
    assert policy.due_at(501) == pytest.approx(530)
    policy.watch(560)
    assert policy.due_at(501) == pytest.approx(501)
    assert policy.due_at(561) == pytest.approx(530)


def test_the_chunk_size_follows_the_rate_up_and_down() -> None:
    policy = ChunkPolicy(now=0)
    for second in range(1, 9):
        policy.was_cut(second, policy.limit)
    assert policy.limit == 8 << 20
    for second in range(100, 1000, 30):
        policy.was_cut(second, 1000)
    assert policy.limit == SMALLEST_CHUNK


def test_a_log_reaches_the_store_whole_with_its_end_marker(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = FakeStore()
        log = make_log(store, tmp_path)
        log.output(b"one\ntw")
        log.say("warning")
        log.output(b"o\nthree")
        digest = await log.finish(FINISHED, 5)
        expected = [("output", "one"), ("output", "tw"), ("agent", "warning"), ("output", "o"), ("output", "three")]
        assert messages(store.objects["log"]) == expected
        assert [line for chunk in store.chunks for line in messages(chunk)] == expected
        assert digest.sha256 == hashlib.sha256(store.objects["log"]).hexdigest()
        assert (digest.lines, digest.bytes) == (5, len(gzip.decompress(store.objects["log"])))
        end = json.loads(store.objects["end"])
        assert end["digest"] == digest.model_dump()
        assert end["outcome"] == {"end": "FINISHED", "exit_code": 0}

    asyncio.run(scenario())


def test_an_unterminated_line_is_shipped_after_a_short_silence(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = FakeStore()
        log = make_log(store, tmp_path)
        # Nothing has kept the log awake before.
        await asyncio.sleep(0.1)
        log.output(b"Proceed? ")
        await until(lambda: store.chunks)
        assert messages(store.chunks[0]) == [("output", "Proceed? ")]
        await log.close()

    asyncio.run(scenario())


def a_writer(tmp_path: Path, now: list[float], cap: int = 1 << 30) -> tuple[LogWriter, Spool]:
    spool = Spool(tmp_path / "spool")
    terms = LogTerms(run="R", attempt=1, phase="perform", cap_bytes=cap, spool=tmp_path / "spool")
    writer = LogWriter(terms, spool, mask=NoMask(), clock=lambda: now[0], largest_chunk=1 << 20, on_news=lambda: None)
    return writer, spool


def test_dots_that_never_end_their_line_become_chunks_all_the_same(tmp_path: Path) -> None:
    """`while :; do printf .; sleep 0.2; done`: never silent for long, and never at the end of a line."""
    now, cut_at = [0.0], list[float]()
    writer, spool = a_writer(tmp_path, now)
    while now[0] < 300:
        writer.output(b".")
        now[0] += 0.2
        due_at = writer.due_at(now[0])
        if due_at is not None and due_at <= now[0]:
            writer.cut_if_due(now[0])
        if len(spool.waiting) > len(cut_at):
            cut_at.append(now[0])
    spool.close()
    assert all(later - earlier < 40 for earlier, later in pairwise([0, *cut_at, 300]))


def test_a_line_that_pauses_for_less_than_that_is_not_broken(tmp_path: Path) -> None:
    now = [0.0]
    writer, spool = a_writer(tmp_path, now)
    for piece in (b"one ", b"two ", b"three\n"):
        writer.output(piece)
        now[0] += 0.2
        writer.cut_if_due(now[0])
    digest, _ = writer.end()
    spool.close()
    assert digest.lines == 1


def test_what_is_over_the_cap_is_counted_and_said_at_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = FakeStore()
        log = make_log(store, tmp_path, cap=2000)
        for _ in range(1000):
            log.output(b"0123456789\n")
        digest = await log.finish(FINISHED, 5)
        lines = messages(store.objects["log"])
        kept = sum(len(text) + 1 for stream, text in lines if stream == "output")
        assert (digest.complete, digest.dropped) == (False, 11_000 - kept)
        assert lines[-1] == ("agent", f"{digest.dropped} bytes of output are not in this log")

    asyncio.run(scenario())


@pytest.mark.parametrize("freed", [False, True], ids=["full to the end", "freed before the end"])
def test_what_a_full_disk_does_not_keep_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, freed: bool
) -> None:
    now = [0.0]
    writer, spool = a_writer(tmp_path, now)
    writer.output(b"kept\n")
    now[0] += 60
    writer.cut_if_due(now[0])

    def full(segment: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as disk:
        disk.setattr(spool, "append", full)
        writer.output(b"one\n")
        now[0] += 60
        writer.cut_if_due(now[0])
        writer.output(b"12345\n")
        digest, whole = writer.end() if not freed else (None, None)
    if not digest or not whole:
        digest, whole = writer.end()
    data = b"".join(spool.whole_log())
    spool.close()
    assert (digest.complete, digest.dropped) == (False, 10)
    said = [("agent", "10 bytes of output are not in this log")]
    assert messages(data) == [("output", "kept"), *(said if freed else [])]
    assert (digest.lines, digest.bytes) == (len(messages(data)), len(gzip.decompress(data)))


def test_failures_are_retried_and_the_order_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = FakeStore(failures=[UploadFailed("down"), UploadFailed("still down")])
        log = make_log(store, tmp_path)
        for number in range(30_000):
            log.output(b"%d\n" % number)
        digest = await log.finish(FINISHED, 20)
        sent = [line for chunk in store.chunks for _, line in messages(chunk)]
        assert sent == [str(number) for number in range(30_000)]
        assert len(store.chunks) > 1
        assert digest.complete

    asyncio.run(scenario())


def test_a_refused_grant_asks_for_another_and_goes_on_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = FakeStore(valid="post-second")
        asked: list[bool] = []
        log = make_log(store, tmp_path, on_refused=lambda: asked.append(True))
        log.output(b"hello\n")
        await until(lambda: asked)
        assert asked == [True]
        assert store.chunks == []
        log.use(grants("second"))
        await until(lambda: store.chunks)
        assert messages(store.chunks[0]) == [("output", "hello")]
        await log.close()

    asyncio.run(scenario())


def test_a_chunk_that_is_wrong_for_good_is_left_out_and_the_final_log_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quaymaster_worker.log.delivery.FIRST_BACKOFF", 0.001)

    async def scenario() -> None:
        store = FakeStore(failures=[UploadRefused("400")] * 5)
        log = make_log(store, tmp_path)
        log.output(b"hello\n")
        await until(lambda: not store.failures)
        assert store.chunks == []
        await log.finish(FINISHED, 5)
        assert messages(store.objects["log"]) == [("output", "hello")]

    asyncio.run(scenario())


def test_the_cap_cuts_the_output_with_a_line_that_says_so_and_the_agent_may_still_speak(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = FakeStore()
        log = make_log(store, tmp_path, cap=2000)
        for number in range(1000):
            log.output(b"%d\n" % number)
        log.say("ending the phase")
        digest = await log.finish(FINISHED, 5)
        lines = messages(store.objects["log"])
        assert not digest.complete
        assert len(lines) < 40
        assert [stream for stream, _ in lines][-3:] == ["agent"] * 3
        assert "cap of 2000 bytes" in lines[-3][1]

    asyncio.run(scenario())


def test_a_store_that_never_answers_does_not_keep_the_report(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = make_log(FakeStore(failures=[UploadFailed("down")] * 1000), tmp_path)
        log.output(b"hello\n")
        digest = await log.finish(FINISHED, 0.2)
        assert not digest.complete

    asyncio.run(scenario())


def test_memory_stays_bounded_while_the_store_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = make_log(FakeStore(failures=[UploadFailed("down")] * 1000), tmp_path)
        block = b"".join(b"%064d\n" % number for number in range(1000))
        log.output(block)
        tracemalloc.start()
        for _ in range(20):
            log.output(block * 3)
            await asyncio.sleep(0)
        grown, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await log.close()
        assert grown < 8 << 20
        assert peak < 24 << 20

    asyncio.run(scenario())
