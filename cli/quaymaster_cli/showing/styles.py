"""The colour of each state, on terminals."""

STYLES = {
    "QUEUED": "yellow",
    "READY": "yellow",
    "PREPARING": "cyan",
    "RUNNING": "bold cyan",
    "UNCONFIRMED": "bold yellow",
    "FINISHED": "green",
    "FAILED": "bold red",
    "STOPPED": "magenta",
    "CANCELED": "magenta",
    "DISCARDED": "magenta",
    "PENDING": "dim",
    "SKIPPED": "magenta",
    "IDLE": "green",
    "BUSY": "bold cyan",
    "ASKED": "yellow",
    "LEAVING": "yellow",
    "GONE": "dim",
    "up": "green",
    "down": "dim",
    "broken": "bold red",
}
