"""Reading log objects: gzip of NDJSON lines, fetched by presigned GET and decompressed as they arrive."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from quaymaster.domain.api import LogPiece

from quaymaster_cli.deployment.client import readable
from quaymaster_cli.errors import Disconnected, LogLost

_GZIP = 31
"""zlib's window size for a gzip stream."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of a log, or a piece of one: only what ends a line has a line end.

    `raw` is its JSON, `agent` says that the worker wrote it and not the command.
    """

    text: str
    agent: bool
    raw: str
    phase: str | None = None


def read_piece(http: httpx.Client, piece: LogPiece) -> Iterator[LogLine]:
    """The lines of one object. Raises LogLost when it is gone or broken, Unreachable when the bucket is."""
    with readable("the bucket"), http.stream("GET", piece.url) as response:
        if response.is_server_error:
            raise Disconnected(f"the bucket answers {response.status_code} {response.reason_phrase}")
        if not response.is_success:
            raise LogLost(f"{piece.key} cannot be read: {response.status_code} {response.reason_phrase}")
        for line in _lines(_unzipped(response.iter_raw(), piece.key)):
            yield read_line(line)


def _unzipped(parts: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The plain bytes of one or several gzip members, one behind the other."""
    unzip = zlib.decompressobj(_GZIP)
    fresh = True
    for part in parts:
        left = part
        while left:
            try:
                yield unzip.decompress(left)
            except zlib.error as error:
                raise LogLost(f"{key} is not a gzip stream: {error}") from None
            fresh, left = False, b""
            if unzip.eof:
                left, unzip, fresh = unzip.unused_data, zlib.decompressobj(_GZIP), True
    if not fresh:
        raise LogLost(f"{key} ends too early")


def _lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        yield from (line for line in lines if line)
    if rest:
        yield rest


def read_line(line: bytes) -> LogLine:
    """A line of a log; one that is not understood is shown as it is."""
    raw = line.decode(errors="replace")
    try:
        found = json.loads(raw)
        end = "" if found.get("partial") is True else "\n"
        text = str(found["msg"]) + end
        return LogLine(text=text, agent=found.get("stream") == "agent", raw=raw, phase=found.get("phase"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return LogLine(text=f"{raw}\n", agent=False, raw=raw)
