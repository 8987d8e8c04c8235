"""`python -m tests.simulation`: many histories, or one again."""

import argparse
import sys

from tests.simulation.batch import play_all, report
from tests.simulation.hunt import hunt_all, write_noticed
from tests.simulation.hunt import report as report_hunted
from tests.simulation.shrink import broken_by, read_steps, shrink, told

TOLD = 3
"""So many failing seeds are told in full."""


def main() -> int:
    """Play what the command line asks for; 1 if an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=None, help="as many as there are processors, if not given")
    parser.add_argument("--seed", type=int, default=None, help="play this one again, and tell it")
    parser.add_argument("--steps", default=None, help="only these of its steps, as a failure names them")
    parser.add_argument("--defects", action="store_true", help="catch every defect of the list instead")
    asked = parser.parse_args()
    if asked.defects:
        hunted = hunt_all()
        write_noticed(hunted)
        print(report_hunted(hunted))
        return 1 if any(one.invariant is None for one in hunted) else 0
    if asked.seed is not None:
        return replay(asked.seed, asked.steps)
    played = play_all(asked.first, asked.seeds, asked.processes)
    for failure in played.failures:
        print(f"seed {failure.seed}: {failure.what}")
    for failure in played.failures[:TOLD]:
        if failure.invariant:
            print(f"\n--- seed {failure.seed}, made as short as it goes:")
            print(told(failure.seed, shrink(failure.seed, failure.invariant)))
    print(report(played))
    return 1 if played.failures else 0


def replay(seed: int, steps: str | None) -> int:
    """One history again, told line by line."""
    violation, lines = broken_by(seed, read_steps(steps) if steps else None)
    print("\n".join(lines))
    print(violation or "every invariant held")
    return 1 if violation else 0


if __name__ == "__main__":
    sys.exit(main())
