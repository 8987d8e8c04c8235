"""Secrets are replaced in a phase's bytes before anything keeps them, however the bytes come.

A value is found as it is and in base64 (of both alphabets, in whatever text was encoded), also where line ends come
between its bytes. Limits, which `docs/agent.md` tells: values of fewer than LEAST bytes are not looked for, of longer
ones the first MOST bytes; a line end within the first LEAST bytes hides a value, unless it is the value's own.
"""

import base64
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

LEAST = 4
MOST = 64 * 1024
MASK = b"*****"
ADD = b"::add-mask "
_ENDS = b"\r\n"
_PART = re.compile(rb"[^\r\n]+")


class Secret:
    """One form of a value, without its line ends."""

    def __init__(self, value: bytes) -> None:
        self.bytes = value.translate(None, _ENDS)[:MOST]
        own = _breaks(value)
        self.breaks = frozenset(own[: bisect_right(own, LEAST)])
        """Where in its first LEAST bytes line ends are its own."""

    def begins_at(self, start: int, breaks: Sequence[int], end: int) -> bool:
        """Whether no line end but its own comes into its first bytes; `breaks` are all, up to `end`."""
        first, last = bisect_right(breaks, start), bisect_left(breaks, min(start + LEAST, end + 1))
        return all(breaks[at] - start in self.breaks for at in range(first, last))


class Secrets:
    """Masks what it has been told; it holds back a tail that may be the beginning of a secret."""

    def __init__(self, values: Iterable[str | bytes] = ()) -> None:
        self._secrets: dict[bytes, Secret] = {}
        self._held = b""
        for value in values:
            self.add(value)

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def add(self, value: str | bytes) -> None:
        """Mask this value from now on."""
        plain = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        for form in (plain, *_in_base64(plain.translate(None, _ENDS)), *_in_base64(plain)):
            secret = Secret(form)
            if len(secret.bytes) >= LEAST:
                self._secrets.setdefault(secret.bytes, secret)

    def feed(self, data: bytes) -> bytes:
        """The bytes that are certain, masked."""
        if not self._secrets:
            return data
        return self._mask(self._held + data, final=False)

    def flush(self) -> bytes:
        """What was held back: nothing follows it."""
        held, self._held = self._held, b""
        return self._mask(held, final=True)

    def hide(self, text: str) -> str:
        """A text of its own, masked."""
        if not self._secrets:
            return text
        found = Secrets()
        found._secrets = self._secrets
        data = text.encode("utf-8", "surrogateescape")
        return (found.feed(data) + found.flush()).decode("utf-8", "surrogateescape")

    def _mask(self, data: bytes, *, final: bool) -> bytes:
        plain = data.translate(None, _ENDS)
        found = [place for secret in self._secrets.values() for place in _places(secret, plain, data)]
        certain = len(plain) if final else self._certain(plain, data)
        # What overlaps with what may still become another secret waits for that.
        while waiting := [start for start, end in found if start < certain < end]:
            certain = min(waiting)
        merged = _merged(place for place in found if place[1] <= certain)
        at = _Positions(data)
        cut = len(data) if certain == len(plain) else at[certain]
        parts: list[bytes] = []
        done = 0
        for start, end in merged:
            first, last = at[start], at[end - 1] + 1
            parts += [data[done:first], _PART.sub(MASK, data[first:last])]
            done = last
        parts.append(data[done:cut])
        self._held = data[cut:]
        return b"".join(parts)

    def _certain(self, plain: bytes, data: bytes) -> int:
        """Up to where no secret can begin that these bytes do not end."""
        certain = len(plain)
        breaks: list[int] | None = None
        for secret in self._secrets.values():
            start = max(0, len(plain) - len(secret.bytes) + 1)
            while (start := plain.find(secret.bytes[:1], start, certain)) >= 0:
                if secret.bytes.startswith(plain[start:]):
                    breaks = _breaks(data) if breaks is None else breaks
                    if secret.begins_at(start, breaks, len(plain)):
                        certain = start
                        break
                start += 1
        return certain


class MaskCommands:
    """Masks secrets, and takes the words of lines that begin with `::add-mask ` for more of them."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._line = b""
        """The beginning of a line that may be such a one."""
        self._begins = True

    def feed(self, data: bytes) -> bytes:
        """The bytes that are certain, masked."""
        data = self._line + data if self._line else data
        if ADD[:2] not in data and not data.endswith(ADD[:1]):
            # As nearly always: no line of it is such a one, or may become one.
            self._line = b""
            self._begins = data.endswith((b"\n", b"\r")) if data else self._begins
            return self._secrets.feed(data)
        return b"".join(map(self._take, data.splitlines(keepends=True)))

    def flush(self) -> bytes:
        """What was held back: nothing follows it."""
        line, self._line = self._line, b""
        told = self._add(line) if line.startswith(ADD) else line
        return self._secrets.feed(told) + self._secrets.flush()

    def hide(self, text: str) -> str:
        """A text of its own, masked."""
        return self._secrets.hide(text)

    def _take(self, piece: bytes) -> bytes:
        self._line = b""
        begins, self._begins = self._begins, piece.endswith((b"\n", b"\r"))
        may_be = begins and (piece.startswith(ADD) or ADD.startswith(piece))
        if may_be and not self._begins and len(piece) < MOST:
            self._line, self._begins = piece, True
            return b""
        return self._secrets.feed(self._add(piece) if begins and piece.startswith(ADD) else piece)

    def _add(self, line: bytes) -> bytes:
        """The line without its words, which are masked from now on."""
        for word in line.removeprefix(ADD).split():
            self._secrets.add(word)
        end = line[len(line.rstrip(_ENDS)) :]
        return ADD + MASK + end


class _Positions:
    """Where each byte that is no line end stands; made only where something is to be found."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._places: list[int] | None = None

    def __getitem__(self, number: int) -> int:
        if self._places is None:
            self._places = [at for at, byte in enumerate(self._data) if byte not in _ENDS]
        return self._places[number]


def _places(secret: Secret, plain: bytes, data: bytes) -> Iterable[tuple[int, int]]:
    start = plain.find(secret.bytes)
    breaks = _breaks(data) if start >= 0 else []
    while start >= 0:
        end = start + len(secret.bytes)
        if secret.begins_at(start, breaks, len(plain)):
            yield start, end
        start = plain.find(secret.bytes, start + 1)


def _merged(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _breaks(data: bytes) -> list[int]:
    """Before which bytes, counted without line ends, a line end stands."""
    found: list[int] = []
    before = 0
    for part in re.finditer(rb"[\r\n]+", data):
        at = part.start() - before
        before += part.end() - part.start()
        found.append(at)
    return found


def _in_base64(value: bytes) -> set[bytes]:
    """What surely stands in the base64 of any text that has the value in it: by where it begins there, three forms."""
    forms: set[bytes] = set()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + value)
        # The first characters are of what comes before as well, the last of what comes behind.
        first = (before * 8 + 5) // 6
        last = (before + len(value)) * 8 // 6
        kept = encoded[first:last]
        if len(kept) >= LEAST + 2:
            forms |= {kept, kept.translate(bytes.maketrans(b"+/", b"-_"))}
    return forms
