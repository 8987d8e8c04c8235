"""The queues in memory."""

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count

from quaymaster.adapters.sqs.queue import MAX_DELAY, letter_attributes, sendable
from quaymaster.domain.wakes import Wake, encode_wake
from quaymaster.errors import Unavailable
from quaymaster.ports import Clock, DeadLetter


class MemoryQueue:
    """Fulfils `ports.Queue`. While `down` is set, every call fails."""

    def __init__(self, clock: Clock) -> None:
        self.down: str | None = None
        self.refused: list[DeadLetter] = []
        self._clock = clock
        self._numbers = count(1)
        self._messages: list[tuple[datetime, int, str]] = []

    def wake(self, what: Wake, delay: timedelta) -> None:
        self._push(encode_wake(what).decode(), min(max(delay, timedelta(0)), MAX_DELAY))

    def refuse(self, body: str, reason: str, source: str, sender: str = "") -> None:
        self._answer()
        letter = DeadLetter(
            id=f"letter-{next(self._numbers)}",
            sent_at=self._clock(),
            body=sendable(body) or "(empty)",
            attributes=letter_attributes(reason, source, sender),
        )
        self.refused.append(letter)

    def send(self, message: str) -> None:
        self._push(message, timedelta(0))

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        self._answer()
        return self.refused[:limit]

    def sift_dead_letters(self, done: Callable[[DeadLetter], bool], limit: int) -> int:
        self._answer()
        shown = self.refused[:limit]
        for letter in shown:
            if done(letter):
                self.refused.remove(letter)
        return len(shown)

    def take(self) -> list[str]:
        """The bodies (requests and wake-ups) whose delay has passed, in order; they are gone from the queue."""
        taken: list[str] = []
        while self._messages and self._messages[0][0] <= self._clock():
            taken.append(heapq.heappop(self._messages)[2])
        return taken

    @property
    def next_at(self) -> datetime | None:
        """When the next message is due, if one is under way."""
        return self._messages[0][0] if self._messages else None

    def _push(self, body: str, delay: timedelta) -> None:
        self._answer()
        heapq.heappush(self._messages, (self._clock() + delay, next(self._numbers), body))

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("sqs", self.down)
