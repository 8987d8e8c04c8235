"""Colours of the screen."""

from collections.abc import Mapping

STATES: Mapping[str, str] = {
    "QUEUED": "yellow",
    "READY": "yellow",
    "PREPARING": "cyan",
    "RUNNING": "bold cyan",
    "FINISHED": "green",
    "FAILED": "red",
    "STOPPED": "magenta",
    "CANCELED": "magenta",
    "SKIPPED": "magenta",
    "IDLE": "green",
    "BUSY": "bold cyan",
    "ASKED": "yellow",
    "LEAVING": "yellow",
    "GONE": "dim",
}
"""By the state of a run or a worker."""

RUNS = ("bright_blue", "bright_magenta", "bright_green", "bright_yellow", "bright_cyan", "blue", "magenta", "green")
"""Beside the lines of each run's log, one after the other."""
