"""A pool's settings as options of the command line: one for each, with its default in its help."""

import inspect
from dataclasses import fields
from datetime import timedelta
from typing import Annotated

import typer
from quaymaster.domain.durations import format_duration
from quaymaster.domain.pool import PoolSettings

from quaymaster_cli.expansion import Command, expand, option

MEANING = {
    "log_timeout": "End a run that is silent for so long",
    "run_timeout": "End a run that takes longer",
    "max_log_timeout": "The longest log timeout that a run may ask for",
    "max_run_timeout": "The longest run timeout that a run may ask for",
    "accept_timeout": "Offer a run again when its worker has not answered for so long",
    "prepare_timeout": "Fail a run whose preparation takes longer",
    "lease": "A worker that reaches nothing for so long ends its command by itself",
    "stop_grace": "Between SIGTERM and SIGKILL",
    "lost_slack": "Beyond lease and grace, before a silent worker counts as lost",
    "backstop_slack": "Beyond a timeout, before the control plane enforces it itself",
    "warning": "How long before a timeout the log says that it is near",
    "grant_life": "How long one permission to write a log holds",
    "idle_timeout": "Stop a Fargate worker that is idle for so long",
    "start_timeout": "Look for a Fargate task that has not become a worker, and give its place back if it is gone",
    "start_failure_limit": "Fail runs that wait for longer while every start of a task fails for good",
    "queue_timeout": "Fail runs that have waited for a worker for longer",
    "confirmation_timeout": "Discard runs that nobody has confirmed for longer",
    "losses": "How often a run's worker may be lost before it has begun",
    "offers": "How often a run is offered without an answer",
    "max_workers": "The most Fargate workers at once",
    "runs_per_worker": "Runs that one Fargate worker takes, one after the other",
    "warm": "Fargate workers that are kept idle, ready for the next run",
    "capacity": "Start Fargate tasks on_demand, on spot, or spot_then_on_demand",
    "read_only_capacity": "The same for tasks that are started for read-only runs (proposed, drift)",
    "spot_patience": "How long spot_then_on_demand waits for Spot once it has none",
    "images": "Images that a run may name, for a Fargate task of its own; * stands for any text",
    "log_cap_bytes": "Bytes of log that are kept of one run",
    "workspace_cap_bytes": "Packed bytes that a run may leave for what needs confirmation",
}


def with_settings(function: Command) -> Command:
    """Give a command one option for each setting; its parameter `settings` gets those that were used."""
    return _with_options(function, "(default: {})")


def with_changes(function: Command) -> Command:
    """The same for a command that leaves what is not said as it is."""
    return _with_options(function, "")


def _with_options(function: Command, told: str) -> Command:
    defaults = PoolSettings()
    options = [_option(one.name, getattr(defaults, one.name), told) for one in fields(PoolSettings)]
    return expand(function, "settings", options, _used)


def _option(name: str, default: timedelta | tuple[str, ...] | str | int | None, told: str) -> inspect.Parameter:
    kind, metavar, shown = str, "WHERE", str(default)
    match default:
        case None:
            shown = "as --capacity"
        case timedelta():
            metavar, shown = "DURATION", format_duration(default)
        case tuple():
            metavar, shown = "IMAGE,…", "none"
        case int():
            kind, metavar = int, "NUMBER"
        case str():
            pass
    help_text = f"{MEANING[name]} {told.format(shown)}".strip() + "."
    flag = f"--{name.replace('_', '-')}"
    return option(name, Annotated[kind | None, typer.Option(flag, help=help_text, metavar=metavar)])


def _used(**values: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in values.items() if value is not None}
