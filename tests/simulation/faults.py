"""What goes wrong at a call, drawn by the seed; and which calls it has gone wrong at, so that none is forgotten."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from quaymaster.adapters.memory.weakness import Trouble

from tests.simulation.callsites import CallSite, Side, call_sites
from tests.simulation.handlers import Handler

type Reached = tuple[str, CallSite]
"""A use case and one of the calls that it makes."""

MOST_LAG = 3
GENTLE = 0.03
"""The rate of a gentle history: little enough goes wrong that commands run, and are there to be ended wrongly."""
TARGETS = 4
RARE = (
    "logs.assemble",
    "placing.announce",
    "placing.spec_object",
    "reaper.expire",
    "reaper.reap_run",
    "reaper.reap_worker",
    "reaper.sweep",
    "replies",
    "steering.cancel",
    "steering.confirm",
    "steering.extend",
    "steering.stop",
    "tasks.bound",
    "tasks.counting",
    "tasks.follow",
    "tasks.image_definitions",
    "tasks.launch",
    "tasks.reserve",
    "tasks.start_failures",
    "tasks.strays",
    "workers.begin",
    "workers.finish",
    "workers.register",
    "workers.task_events",
)
"""Modules with calls that few histories come to: each seed aims at half of them, on either side."""
PEACEFUL = ("reaper.expire", "reaper.sweep", "steering.confirm", "workers.task_events")
"""Of those, the ones with calls that are come to only where little goes wrong."""
SLOW = ("logs.assemble", "reaper.reap_run", "release")
"""Modules in which one reaper should overtake another more often than it would by chance."""
MEETING = ("requests.submit", "workers.finish", "workers.register")
"""Modules that leave a ticket or a marker: one of them is overtaken in each racing history, before it writes."""
CONTENTION = 0.1
"""How often a transaction meets another in a racing history."""


class Fate(StrEnum):
    """What becomes of one call. FAILED was not made, UNANSWERED was; both say Unavailable.

    REFUSED is what ECS says of a RunTask for which it has no capacity, whatever an earlier call has started.
    """

    MADE = "made"
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    FAILED = "failed"
    UNANSWERED = "unanswered"
    REFUSED = "refused"
    PAUSE = "pause"


RACED = frozenset({"store.commit", "tasks.stop"})
"""What was read before these may be true no longer: here a function stands still more often than elsewhere."""
CRASHES = {Side.BEFORE: Fate.CRASH_BEFORE, Side.AFTER: Fate.CRASH_AFTER}


@dataclass
class Coverage:
    """How often each call of each use case was made, and how often a function died of it, on either side."""

    made: Counter[Reached] = field(default_factory=Counter[Reached])
    crashed: Counter[tuple[Reached, Side]] = field(default_factory=Counter[tuple[Reached, Side]])

    def add(self, other: "Coverage") -> None:
        self.made.update(other.made)
        self.crashed.update(other.crashed)

    def missing(self) -> list[str]:
        """The calls in the use cases' source that no crash has reached on one side or the other."""
        reached = {(site, side) for (_, site), side in self.crashed}
        return [f"{side} {site}" for site in call_sites() for side in Side if (site, side) not in reached]

    def percent(self) -> float:
        """How much of source's call sites, on both sides, crashes have reached."""
        return 100 - 100 * len(self.missing()) / (2 * len(call_sites()))

    def use_cases(self) -> tuple[int, int]:
        """Of the pairs of use case and call site that occurred, on both sides: how many crashed, and how many are."""
        return len(self.crashed), 2 * len(self.made)


@dataclass
class Faults:
    """Faults of one history. `rate` is the probability of trouble per occasion; a calm step has none.

    Each seed aims at some call sites beside what comes by chance, so that rare calls have their crash too; and one
    module of the use cases is slow, so that others overtake it there. In a racing history nothing breaks, but
    everybody stands still again and again, and transactions meet others. With a broken image no task comes up, until
    all is well.
    """

    seed: int
    rate: float
    random: Random
    calm: bool = False
    coverage: Coverage = field(default_factory=Coverage)

    def __post_init__(self) -> None:
        sites = call_sites()
        drawn = Random(self.seed)
        self.targets = {(drawn.choice(sites), drawn.choice(tuple(Side))) for _ in range(TARGETS)}
        self.aims = {drawn.choice(sites).module}
        rare = [(site, side) for site in sites if site.module in RARE for side in Side]
        self.targets.update(target for target in rare if drawn.random() < 0.5)
        self.gentle = self.seed % 5 == 4
        self.slow = drawn.choice([*sorted({site.module for site in sites}), *SLOW * 3])
        if not self.rate:
            # Where nothing goes wrong nobody is slow either.
            self.slow = "nobody"
        self.racing = bool(self.rate) and self.seed % 5 == 2
        if self.racing:
            self.slow = drawn.choice(MEETING)
        self.broken_image = bool(self.rate) and self.seed % 20 == 1
        if self.gentle:
            self.rate, self.slow = min(self.rate, GENTLE), drawn.choice(sites).module
            self.targets = {(site, side) for site, side in self.targets if site.module in PEACEFUL}
            self.aims.clear()
        self.aims.add(self.slow)

    def chance(self, weight: float = 1) -> bool:
        """Whether trouble of this weight comes now."""
        return not self.calm and not self.racing and self.random.random() < self.rate * weight

    def may_pause(self) -> bool:
        """Whether a handler that begins now may stand still."""
        weight = 10 if self.racing else 2.5 if self.slow in SLOW else 1
        return not self.calm and self.random.random() < self.rate * 6 * weight

    def fate(self, handler: Handler, site: CallSite, *, may_pause: bool) -> Fate:
        """What becomes of a handler's call."""
        self.coverage.made[handler.name, site] += 1
        if self.calm or not self.rate:
            return Fate.MADE
        fate = self._draw(site, may_pause=may_pause and handler.may_pause)
        for side, crash in CRASHES.items():
            if fate is crash:
                self.coverage.crashed[(handler.name, site), side] += 1
        return fate

    def _draw(self, site: CallSite, *, may_pause: bool) -> Fate:
        if self.racing:
            likely = 0.1
            if site.method in RACED:
                likely = 0.9 if site.module == self.slow else 0.3
            return Fate.PAUSE if may_pause and self.random.random() < likely else Fate.MADE
        if fate := self._aimed(site):
            return fate
        drawn = self.random.random() / self.rate
        for fate, weight in (
            (Fate.CRASH_BEFORE, 0.25),
            (Fate.CRASH_AFTER, 0.25),
            (Fate.PAUSE, self._slowness(site)),
        ):
            if drawn < weight:
                return fate if fate is not Fate.PAUSE or may_pause else Fate.MADE
            drawn -= weight
        if site.method != "store.commit":
            # The table itself knows what may become of a commit.
            # Of few calls does as much hang as of a RunTask: there all of it happens more often.
            weight = 0.4 if site.method == "tasks.run" else 0.1
            for fate in (Fate.FAILED, Fate.UNANSWERED):
                if drawn < weight:
                    return fate
                drawn -= weight
            if site.method == "tasks.run" and drawn < weight:
                return Fate.REFUSED
        return Fate.MADE

    def _aimed(self, site: CallSite) -> Fate | None:
        for side, fate in CRASHES.items():
            if (site, side) in self.targets and self.random.random() < 0.9:
                self.targets.remove((site, side))
                return fate
        return None

    def _slowness(self, site: CallSite) -> int:
        usual, slow = (1, 20) if self.slow in SLOW else (3, 12)
        return (slow if site.module == self.slow else usual) * (4 if site.method in RACED else 1)

    # The table's weakness.

    def trouble(self) -> Trouble | None:
        """What becomes of one commit."""
        if self.calm or not self.rate:
            return None
        if self.racing:
            return Trouble.BUSY if self.random.random() < CONTENTION else None
        drawn = self.random.random() / self.rate
        for trouble in Trouble:
            if drawn < 0.4:
                return trouble
            drawn -= 0.4
        return None

    def lag(self) -> int:
        """How far the indexes are behind."""
        return 0 if self.calm or not self.rate else self.random.randint(0, MOST_LAG)
