"""Phases of a run: what a request says of each, the rules between them, and the legs that they make.

A leg is what one attempt runs: the phases up to the next one that needs confirmation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field

from quaymaster.domain.execve import MAX_STRING_BYTES, too_long
from quaymaster.domain.fields import Command, Duration, Environment, Hooks
from quaymaster.domain.messages import Value
from quaymaster.errors import Refused

MOST_PHASES = 8
PERFORM = "perform"
"""The phase of a run whose request names none."""


class Phase(Value):
    """One phase of a run; whether it `needs_confirmation` is asked before it begins."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    command: Command
    environment: Environment = Field(default_factory=dict)
    before: Hooks = ()
    after: Hooks = ()
    log_timeout: Duration | None = None
    run_timeout: Duration | None = None
    read_only: bool = False
    retryable: bool = False
    needs_confirmation: bool = False

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """All that it runs, in order."""
        return (*self.before, self.command, *self.after)


@dataclass(frozen=True, kw_only=True)
class Leg:
    """Phases `first` up to `end`, not included, of so many; `retryable` is whether its first one is."""

    first: int = 0
    end: int = 1
    of: int = 1
    retryable: bool = False


def leg_of(phases: Sequence[Phase], first: int, *, auto_confirm: bool) -> Leg:
    """The leg that begins with this phase."""
    end = first + 1
    while end < len(phases) and (auto_confirm or not phases[end].needs_confirmation):
        end += 1
    return Leg(first=first, end=end, of=len(phases), retryable=phases[first].retryable)


def check_phases(phases: Sequence[Phase]) -> None:
    """Raises Refused, naming the field, for phases that cannot follow one another, and what cannot be run."""
    names: set[str] = set()
    for number, phase in enumerate(phases):
        if phase.name in names:
            raise Refused(f"phases.{number}.name", repr(phase.name), "a name that no other phase of the run has")
        names.add(phase.name)
        if phase.needs_confirmation and not number:
            allowed = "false: before the first phase there is nothing to confirm"
            raise Refused("phases.0.needs_confirmation", "true", allowed)
        for command in phase.commands:
            check_strings(command, phase.environment, f"phases.{number}.")


def check_strings(command: Sequence[str], environment: Mapping[str, str], where: str = "") -> None:
    """Raises Refused for a string that no system could pass to a command."""
    if long := too_long(command, environment):
        field, size = long
        raise Refused(f"{where}{field}", f"{size} bytes", f"at most {MAX_STRING_BYTES} bytes, its name included")
