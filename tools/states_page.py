"""Write `docs/states.md` from the table of states in the code: `python -m tools.states_page`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from quaymaster.domain.states import FINAL, TRANSITIONS, Reason, RunState, Transition

PAGE = Path(__file__).resolve().parents[1] / "docs" / "states.md"

STATES: Mapping[RunState, str] = {
    RunState.QUEUED: "accepted, and blocked by something else than capacity",
    RunState.READY: "only a worker is missing: it has a ticket in its pool's queue",
    RunState.PREPARING: "offered to a worker, which makes everything ready; nothing has begun",
    RunState.RUNNING: "the worker was told `go`: its command may act",
    RunState.UNCONFIRMED: "a phase has finished, and somebody must confirm the next one; no worker holds it",
    RunState.FINISHED: "the command (of the last phase) exited with 0",
    RunState.FAILED: "it ended in any other way than by success or by a user; the reason says how",
    RunState.STOPPED: "a user ended it after it had begun",
    RunState.CANCELED: "a user ended it before it had begun",
    RunState.DISCARDED: "what needed confirmation was not confirmed",
    RunState.SKIPPED: "it was not worth starting",
}

REASONS: Mapping[Reason, str] = {
    Reason.EXIT_CODE: "the command exited with another code than 0, which stands beside the reason",
    Reason.LOG_TIMEOUT: "the phase wrote nothing for the log timeout",
    Reason.RUN_TIMEOUT: "the phase took longer than the run timeout",
    Reason.PREPARE_TIMEOUT: "the worker did not get it ready within the pool's `prepare_timeout`",
    Reason.WORKER_LOST: "its worker is gone, and so is the command",
    Reason.OUT_OF_MEMORY: "the system killed the command, or the whole task, for its memory",
    Reason.SPOT_INTERRUPTED: "ECS took the Spot capacity back",
    Reason.INTERRUPTED: "the agent was told to end and the command could not finish in time",
    Reason.CYCLED: "the pool's workers were told to start again",
    Reason.KILLED: "the command was killed by someone outside Quaymaster",
    Reason.IMAGE_PULL: "the image could not be pulled",
    Reason.POLICY_DENIED: "the policy of its worker's host denied it; the note has the messages",
    Reason.WORKSPACE: "the packed workspace could not be fetched or unpacked, or not be left for a later attempt",
    Reason.START_FAILED: "the command, or the task for it, could not be started",
    Reason.HOOK_FAILED: "a command that the request wants before or after the phase's own failed",
    Reason.CONFIRMATION_EXPIRED: "nobody has confirmed it within the pool's `confirmation_timeout`",
    Reason.NO_CAPACITY: "no capacity could be had for a task",
    Reason.QUEUE_EXPIRED: "it waited longer than the queue allows",
    Reason.NO_WORKER_ANSWERED: "it was offered as often as the pool's `offers` allows, and nobody answered",
    Reason.BY_USER: "a user asked for it",
}

HEAD = """\
# States of a run

<!-- Written by `python -m tools.states_page` from layers/quaymaster/quaymaster/domain/states.py. Change that file. -->

Every change of a run is one of these arrows, checked in code, and written to the table under the condition that the
run still stands where the change starts. Final states stay as they are.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD, _diagram(), _states(), _arrows(), _reasons()]
    return "\n".join(parts)


def _diagram() -> str:
    arrows = [f"    {_node(t.source)} --> {t.target}" for t in TRANSITIONS]
    ends = [f"    {state} --> [*]" for state in RunState if state in FINAL]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, *ends, "```", ""])


def _node(state: RunState | None) -> str:
    return state or "[*]"


def _states() -> str:
    rows = ((f"`{state}`", "yes" if state in FINAL else "", STATES[state]) for state in RunState)
    return _section("The states", ("state", "final", "meaning"), rows)


def _arrows() -> str:
    rows = (
        (f"`{t.source}`" if t.source else "(request)", f"`{t.target}`", t.when, _names(t.reasons)) for t in TRANSITIONS
    )
    return _section("The arrows", ("from", "to", "when", "reasons"), rows)


def _reasons() -> str:
    rows = ((f"`{reason}`", REASONS[reason], _ends_in(reason)) for reason in Reason)
    return _section("The reasons", ("reason", "meaning", "ends as"), rows)


def _ends_in(reason: Reason) -> str:
    """The states that a run with this reason ends in, in the order of the states."""
    found = {t.target for t in _with(reason)}
    return ", ".join(f"`{state}`" for state in RunState if state in found)


def _with(reason: Reason) -> Iterator[Transition]:
    return (t for t in TRANSITIONS if reason in t.reasons)


def _names(reasons: frozenset[Reason]) -> str:
    """In the order of the code, because a set has none."""
    return ", ".join(f"`{reason}`" for reason in Reason if reason in reasons)


def _section(title: str, head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [_row(head), _row(("---",) * len(head)), *(_row(row) for row in rows)]
    return "\n".join([f"## {title}", "", *lines, ""])


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
