"""The shortest history that still breaks the same invariant: steps are left out, and what is left is made calm."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.simulation.history import History, Step, all_steps
from tests.simulation.violation import Invariant, Violation

type Breaks = Callable[[list[Step]], bool]
PATIENCE_SECONDS = 60.0


def broken_by(seed: int, steps: Sequence[Step] | None = None) -> tuple[Violation | None, list[str]]:
    """Play one history; what it broke, and its lines."""
    history = History(seed)
    try:
        history.play(steps)
    except Violation as violation:
        return violation, history.stage.trace
    return None, history.stage.trace


def shrink(seed: int, invariant: Invariant, patience_seconds: float = PATIENCE_SECONDS) -> list[Step]:
    """The steps of a history that are needed to break this invariant; as few as were found in the time given."""
    until = time.monotonic() + patience_seconds

    def breaks(steps: list[Step]) -> bool:
        if time.monotonic() > until:
            return False
        violation, _ = broken_by(seed, steps)
        return violation is not None and violation.invariant is invariant

    steps = _fewer(all_steps(), breaks)
    for number, step in enumerate(steps):
        calmer = [*steps[:number], replace(step, calm=True), *steps[number + 1 :]]
        if breaks(calmer):
            steps = calmer
    return _fewer(steps, breaks)


def _fewer(steps: list[Step], breaks: Breaks) -> list[Step]:
    """Leave out ever smaller pieces while the rest still breaks it."""
    size = max(1, len(steps) // 2)
    while True:
        start = 0
        while start < len(steps):
            fewer = steps[:start] + steps[start + size :]
            if breaks(fewer):
                steps = fewer
            else:
                start += size
        if size == 1:
            return steps
        size = max(1, size // 2)


def write_steps(steps: Sequence[Step]) -> str:
    """`3,17c,20`: the steps as `--steps` takes them; `c` is a calm one, without faults."""
    return ",".join(map(str, steps)) or "none"


def read_steps(text: str) -> list[Step]:
    """What `write_steps` wrote."""
    if text == "none":
        return []
    return [Step(int(part.rstrip("c")), calm=part.endswith("c")) for part in text.split(",")]


def told(seed: int, steps: Sequence[Step]) -> str:
    """A failing history with the command that replays it."""
    violation, lines = broken_by(seed, steps)
    command = f".venv/bin/python -m tests.simulation --seed {seed} --steps {write_steps(steps)}"
    return "\n".join([*lines, f"{violation}", f"replay: {command}"])
