"""A run's history, packed: what the item can spare for it is about 20 bytes an entry."""

from datetime import datetime

from quaymaster.domain.keys import milliseconds
from quaymaster.domain.states import RunState

_STATES = {
    RunState.QUEUED: "Q",
    RunState.READY: "R",
    RunState.PREPARING: "P",
    RunState.RUNNING: "U",
    RunState.UNCONFIRMED: "N",
    RunState.FINISHED: "F",
    RunState.FAILED: "X",
    RunState.STOPPED: "S",
    RunState.CANCELED: "C",
    RunState.DISCARDED: "D",
    RunState.SKIPPED: "K",
}
_ACTORS = {"dispatcher": "d", "worker": "w", "reaper": "r", "registration": "g", "goodbye": "b", "ecs": "e"}
_STATE_OF = {letter: state for state, letter in _STATES.items()}
_ACTOR_OF = {letter: actor for actor, letter in _ACTORS.items()}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SPELLED = "="


def pack_entry(entry: str, accepted_at: datetime) -> str:
    """`state|version|milliseconds|by|note` in short: a letter, base 36, and the time since the acceptance."""
    state, version, at, by, note = entry.split("|", 4)
    since = _base36(int(at) - milliseconds(accepted_at))
    return f"{_STATES[RunState(state)]}{_base36(int(version))}|{since}|{_ACTORS.get(by, _SPELLED + by)}|{note}"


def unpack_entry(packed: str, accepted_at: datetime) -> str:
    """The entry that was packed."""
    head, since, by, note = packed.split("|", 3)
    actor = by[1:] if by.startswith(_SPELLED) else _ACTOR_OF.get(by, by)
    at = milliseconds(accepted_at) + int(since, 36)
    return f"{_STATE_OF[head[0]]}|{int(head[1:], 36)}|{at}|{actor}|{note}"


def has_note(packed: str) -> bool:
    """Whether a packed entry says more than who changed what, and when."""
    return not packed.endswith("|")


def shorten(history: tuple[str, ...], excess: int) -> tuple[str, ...]:
    """A packed history with `excess` bytes of its notes gone, the oldest first, as far as there are so many."""
    shortened: list[str] = []
    for entry in history:
        head, since, by, note = entry.split("|", 3)
        before = note.encode()
        after = before[: max(0, len(before) - max(0, excess))].decode(errors="ignore")
        excess -= len(before) - len(after.encode())
        shortened.append(f"{head}|{since}|{by}|{after}")
    return tuple(shortened)


def _base36(value: int) -> str:
    digits, left = "", abs(value)
    while left or not digits:
        left, digit = divmod(left, 36)
        digits = _DIGITS[digit] + digits
    return f"-{digits}" if value < 0 else digits
