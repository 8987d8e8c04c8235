"""From readings of a phase's cgroup to what it has used, and to a line where it is held up."""

from collections import deque
from dataclasses import dataclass, field

from quaymaster.domain.messages import Usage

WINDOW = 60.0
"""Seconds for which it must be held up before that is told."""
BUSY = 0.95
"""Of what it may have: so busy it is held up."""
THROTTLED = 0.2
"""Of the time: throttled for so long it is held up, whatever it has used."""
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is counted since a command began, and what it holds now. Limits in processors and bytes; None: none."""

    cpu_seconds: float
    throttled_seconds: float = 0
    memory_bytes: int
    memory_peak_bytes: int = 0
    cpus: float | None = None
    memory_limit_bytes: int | None = None


@dataclass(frozen=True)
class Advice:
    """Where whoever runs the phase would give it more."""

    cpus: str
    memory: str


@dataclass
class Used:
    """What the commands of an attempt have used, one after the other; `processors` is what the machine has."""

    advice: Advice
    processors: float
    _before: Usage | None = None
    _last: Reading | None = None
    _began: float = 0
    _samples: deque[tuple[float, Reading]] = field(default_factory=deque[tuple[float, Reading]])
    _seen: Usage | None = None
    _told: bool = False

    def begin(self, now: float) -> None:
        """Another command begins."""
        self._before, self._last, self._began = self._seen, None, now
        self._samples.clear()
        self._told = False

    def see(self, reading: Reading, now: float) -> str | None:
        """Another reading of the command that runs; a line for the log, once, if it is held up."""
        self._last = reading
        self._seen = self._with(reading, now)
        self._samples.append((now, reading))
        while now - self._samples[0][0] > WINDOW and now - self._samples[1][0] >= WINDOW:
            self._samples.popleft()
        if self._told or now - self._samples[0][0] < WINDOW:
            return None
        line = self._held_up(now)
        self._told = line is not None
        return line

    @property
    def usage(self) -> Usage | None:
        """All of it; None where nothing was read."""
        return self._seen

    def out_of_memory(self) -> str:
        """What is said of a command that was killed for its memory."""
        limit = (self._last and self._last.memory_limit_bytes) or (self._seen and self._seen.memory_limit_bytes)
        if not limit:
            return "killed because memory ran out"
        return (
            f"killed because memory ran out: {_mib(limit)} were not enough; "
            f"try {_mib(2 * limit)} ({self.advice.memory})"
        )

    def _with(self, reading: Reading, now: float) -> Usage:
        before = self._before
        return Usage(
            elapsed_ms=round((now - self._began) * 1000) + (before.elapsed_ms if before else 0),
            cpu_ms=round(reading.cpu_seconds * 1000) + (before.cpu_ms if before else 0),
            throttled_ms=round(reading.throttled_seconds * 1000) + (before.throttled_ms if before else 0),
            millicpus=round(reading.cpus * 1000) if reading.cpus else None,
            memory_peak_bytes=max(
                reading.memory_bytes,
                reading.memory_peak_bytes,
                self._seen.memory_peak_bytes if self._seen else 0,
            ),
            memory_limit_bytes=reading.memory_limit_bytes,
        )

    def _held_up(self, now: float) -> str | None:
        (then, first), (_, last) = self._samples[0], self._samples[-1]
        span = now - then
        used = (last.cpu_seconds - first.cpu_seconds) / span
        throttled = (last.throttled_seconds - first.throttled_seconds) / span
        most = min(last.cpus or self.processors, self.processors)
        if used < BUSY * most and throttled < THROTTLED:
            return None
        wanted = self._enough(used, min(throttled, 0.9), most)
        held = f", and was throttled for {throttled:.0%} of the time" if throttled >= 0.01 else ""
        where = self.advice.cpus if last.cpus else "a larger host"
        return (
            f"slow for lack of CPU: for {span:.0f} s it has used {used:.2f} of its {most:g} processors{held}; "
            f"{wanted:g} would do ({where})"
        )

    def _enough(self, used: float, throttled: float, most: float) -> float:
        """Processors by which it would not wait: what it used while it was let, or twice, where that is not known."""
        wanted = used / (1 - throttled) if throttled >= 0.01 else 2 * most
        return max(round(wanted * 2 + 0.49) / 2, most + 0.5)


def _mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"
