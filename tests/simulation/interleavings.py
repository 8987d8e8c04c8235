"""Every interleaving of a few handlers' store calls, over the shipped code, and every place where one of them dies.

A schedule is played from its start again and again, each time with another choice at the end; one that comes to a
state that was there before (the same table, and every handler having read the same) is not followed any further.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from quaymaster.domain.messages import Go
from quaymaster.domain.states import RunState
from quaymaster.errors import QuaymasterError
from quaymaster.ports import key_of

from tests.shared.memory.world import World
from tests.simulation.changes import Rows, Word, check_change
from tests.simulation.handlers import Crash, Handler
from tests.simulation.invariants import check_table, read_table
from tests.simulation.violation import Invariant, Violation, must
from tests.simulation.watched import watched

MOST_TRIES = 4
"""So often an event comes again whose handling failed."""

type Choice = tuple[str, int]
"""`go` on to the next call, `die` before it, or be called `again` after the end; and which handler."""


@dataclass(frozen=True)
class Call:
    """A handler in a scene: its name, what it does, and what an agent said in the event."""

    name: str
    body: Callable[[], object]
    word: Word | None = None


type Scene = Callable[[], tuple[World, Sequence[Call]]]


@dataclass(kw_only=True)
class Explored:
    """How much there was."""

    schedules: int = 0
    states: int = 0


class Play:
    """One schedule of a scene, from its start."""

    def __init__(self, scene: Scene, deaths: int) -> None:
        self.world, self.calls = scene()
        self.deaths = deaths
        self.told: list[str] = []
        self.violation: Violation | None = None
        self._turn = 0
        self._read: list[list[str]] = [[] for _ in self.calls]
        self._tries = [0 for _ in self.calls]
        self._drawn = [Random(number) for number in range(len(self.calls))]
        self.world.ports = watched(self.world.ports, self.world.table, self._watch, self._random)
        self.handlers = [self._new(number) for number in range(len(self.calls))]

    def _new(self, number: int) -> Handler:
        self._tries[number] += 1
        self._read[number] = [f"try {self._tries[number]}"]
        handler = Handler(self.calls[number].name, self.calls[number].name, self.calls[number].body, may_pause=True)
        handler.note = self.calls[number].word
        return handler

    def _random(self, size: int) -> bytes:
        return self._drawn[self._turn].randbytes(size)

    def _watch(self, method: str, call: Callable[[], object], arguments: tuple[Any, ...]) -> object:
        number = self._turn
        if not method.startswith("store."):
            self._judge(method, arguments)
            return call()
        self._read[number].append(f"at {method}")
        self.handlers[number].pause()
        self.told.append(f"{self.calls[number].name}: {method}")
        keys = [key_of(write) for write in arguments] if method == "store.commit" else []
        before: Rows = {key: self.world.table.due(key) for key in keys}
        try:
            answer = call()
        except QuaymasterError as error:
            self._read[number].append(f"{method} {error!r}")
            raise
        self._read[number].append(f"{method} {answer!r}")
        try:
            check_change(before, {key: self.world.table.due(key) for key in keys}, self.calls[number].word)
        except Violation as violation:
            self.violation = violation
            raise Crash from violation
        return answer

    def _judge(self, method: str, arguments: tuple[Any, ...]) -> None:
        """`go` is said only of what the table says has begun."""
        message = arguments[2] if method == "messenger.send" else None
        if isinstance(message, Go):
            run = self.world.table.run(message.run)
            if not run or (run.attempt == message.attempt and run.state is RunState.PREPARING):
                self.violation = Violation(Invariant.GO_BY_THE_TABLE, f"go for {message.run}, which has not begun")
                raise Crash

    def choices(self) -> list[Choice]:
        """What can happen next."""
        open_ = [number for number, handler in enumerate(self.handlers) if not handler.done]
        found = [("go", number) for number in open_]
        if self.deaths:
            found += [("die", number) for number in open_ if len(self._read[number]) > 2]
            found += [("again", number) for number, handler in enumerate(self.handlers) if handler.done]
        # Nobody is called again for ever: without an open handler the schedule is over.
        return found if open_ else [choice for choice in found if choice[0] == "again"]

    def do(self, choice: Choice) -> None:
        """Make one choice, and judge what has come of it. Raises Violation."""
        what, number = choice
        self._turn = number
        if what != "go":
            self.deaths -= 1
            self.told.append(f"{self.calls[number].name}: {'dies, and comes' if what == 'die' else 'comes'} again")
            self.handlers[number].kill()
            self.handlers[number] = self._new(number)
            return
        handler = self.handlers[number]
        handler.turn()
        if self.violation:
            raise self.violation
        if handler.done and handler.error:
            foreseen = isinstance(handler.error, QuaymasterError) and self._tries[number] < MOST_TRIES
            must(Invariant.HANDLED, foreseen, f"{handler.name}: {handler.error!r}")
            self.handlers[number] = self._new(number)
        check_table(read_table(self.world.table.records(), self.world.pool.id))

    def state(self) -> int:
        """What tells this state from others."""
        done = [handler.done for handler in self.handlers]
        return hash(repr((self.world.table.records(), self._read, done, self.deaths)))

    def check_the_end(self) -> None:
        """All have ended: nobody is about to look, so no ticket may lie beside a marker."""
        table = read_table(self.world.table.records(), self.world.pool.id)
        met = bool(table.anybodys and table.markers)
        must(Invariant.NO_LOST_WAKE_UP, not met, f"tickets {table.anybodys}, markers {set(table.markers)}")

    def stop(self) -> None:
        """End whatever still stands somewhere."""
        for number, handler in enumerate(self.handlers):
            self._turn = number
            handler.kill()


def explore(scene: Scene, deaths: int = 1) -> Explored:
    """Play every schedule of a scene with up to so many deaths. Raises Violation with the schedule that led to it."""
    explored, seen = Explored(), set[int]()
    waiting: list[tuple[Choice, ...]] = [()]
    while waiting:
        play = Play(scene, deaths)
        explored.schedules += 1
        try:
            waiting += _follow(play, waiting.pop(), seen)
        except Violation as violation:
            schedule = "\n  ".join([str(violation), *play.told])
            raise Violation(violation.invariant, schedule.partition("] ")[2]) from violation
        finally:
            play.stop()
    explored.states = len(seen)
    return explored


def _follow(play: Play, schedule: tuple[Choice, ...], seen: set[int]) -> list[tuple[Choice, ...]]:
    """Play a schedule and go on as far as it leads to anything new; the other schedules that begin like it."""
    for choice in schedule:
        play.do(choice)
    others: list[tuple[Choice, ...]] = []
    while (state := play.state()) not in seen:
        seen.add(state)
        if all(handler.done for handler in play.handlers):
            play.check_the_end()
        choices = play.choices()
        if not choices:
            break
        others += [(*schedule, choice) for choice in choices[1:]]
        schedule = (*schedule, choices[0])
        play.do(choices[0])
    return others
