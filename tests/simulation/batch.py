"""Many histories, on as many processes as there are processors."""

import gc
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.simulation.faults import Coverage
from tests.simulation.history import History
from tests.simulation.violation import Invariant, Violation

CHUNK = 20


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A seed whose history broke an invariant; none when it broke with another error."""

    seed: int
    invariant: Invariant | None
    what: str


@dataclass(kw_only=True)
class Played:
    """What came of some histories."""

    histories: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list[Failure])
    coverage: Coverage = field(default_factory=Coverage)

    def add(self, other: "Played") -> None:
        """Take in what others played."""
        self.histories += other.histories
        self.failures += other.failures
        self.coverage.add(other.coverage)


def play_seeds(seeds: Sequence[int]) -> Played:
    """Play some histories here."""
    played = Played()
    for seed in seeds:
        history = History(seed)
        try:
            history.play()
        except Violation as violation:
            played.failures.append(Failure(seed=seed, invariant=violation.invariant, what=str(violation)))
        except Exception as error:
            # A mistake of the simulation's own: it is told with its seed like any other failure.
            played.failures.append(Failure(seed=seed, invariant=None, what=f"{type(error).__name__}: {error}"))
        played.histories += 1
        played.coverage.add(history.faults.coverage)
    return played


def play_all(first: int, count: int, processes: int | None = None) -> Played:
    """Play the histories of `count` seeds from `first` on."""
    started = time.monotonic()
    total = Played()
    for played in _chunks_played(first, count, processes or os.cpu_count() or 1):
        total.add(played)
    total.seconds = time.monotonic() - started
    total.failures.sort(key=lambda failure: failure.seed)
    return total


def _chunks_played(first: int, count: int, processes: int) -> Iterator[Played]:
    seeds = range(first, first + count)
    chunks = [seeds[start : start + CHUNK] for start in range(0, count, CHUNK)]
    if processes == 1 or len(chunks) == 1:
        yield from map(play_seeds, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(processes, leave_the_past_to_itself) as pool:
        yield from pool.imap_unordered(play_seeds, chunks)


def leave_the_past_to_itself() -> None:
    """Let a process that plays histories collect garbage rarely: a history leaves little, and an eighth of the time."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def report(played: Played) -> str:
    """The figures, as people read them."""
    crashed, occurring = played.coverage.use_cases()
    rate = played.histories / max(played.seconds, 0.001)
    lines = [
        f"{played.histories} histories in {played.seconds:.0f} s ({rate:.1f}/s): {len(played.failures)} failed",
        f"crash points: {played.coverage.percent():.1f} % of the call sites in the source, before and after the call;"
        f" {crashed} of {occurring} ({100 * crashed / max(occurring, 1):.1f} %) by use case",
    ]
    lines += [f"  no crash {site}" for site in played.coverage.missing()]
    return "\n".join(lines)
