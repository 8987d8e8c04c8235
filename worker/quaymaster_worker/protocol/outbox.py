"""Messages that are repeated until they are answered, at growing and jittered intervals."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from quaymaster.domain.messages import FromAgent

LONGEST_PAUSE = 60.0
GROWTH = 1.6


@dataclass
class _Entry:
    make: Callable[[], FromAgent]
    due_at: float
    pause: float


class Outbox:
    """What waits for an answer, by name. Each message is made anew for each sending, so that it is never stale."""

    def __init__(self, random: Random, first_pause: float = 3.0) -> None:
        self._random = random
        self._entries: dict[str, _Entry] = {}
        self.first_pause = first_pause

    def put(self, name: str, make: Callable[[], FromAgent], now: float) -> None:
        """Send a message now and until it is dropped; replaces one of the same name."""
        self._entries[name] = _Entry(make, now, self.first_pause)

    def drop(self, name: str) -> bool:
        """Stop repeating; says whether there was anything to stop."""
        return self._entries.pop(name, None) is not None

    def hurry(self, now: float) -> None:
        """Everything is due now, with short pauses again: the connection is new."""
        for entry in self._entries.values():
            entry.due_at, entry.pause = now, self.first_pause

    def due(self, now: float) -> list[FromAgent]:
        """The messages to send now; each is due again after its pause, which grows."""
        messages: list[FromAgent] = []
        for entry in list(self._entries.values()):
            if entry.due_at <= now:
                messages.append(entry.make())
                entry.due_at = now + entry.pause * self._random.uniform(0.8, 1.2)
                entry.pause = min(entry.pause * GROWTH, LONGEST_PAUSE)
        return messages

    def next_at(self) -> float | None:
        """When `due` next has something."""
        return min((entry.due_at for entry in self._entries.values()), default=None)

    @property
    def names(self) -> frozenset[str]:
        """What is waiting for an answer."""
        return frozenset(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries
