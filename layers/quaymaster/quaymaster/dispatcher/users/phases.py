"""How the phases of a run are shown."""

from datetime import datetime

from quaymaster.domain.api import PhaseView
from quaymaster.domain.run import Run, Spec, phase_times
from quaymaster.domain.states import RunState

PENDING = "PENDING"


def first_command(spec: Spec) -> tuple[str, ...]:
    """Its one command, or the first of its phases."""
    return spec.phases[0].command if spec.phases else spec.command


def began_at(run: Run) -> datetime | None:
    """When the first of its phases began; None while none has."""
    times = phase_times(run)
    return times[0].begun_at if times else run.begun_at


def show_phases(run: Run, spec: Spec) -> list[PhaseView]:
    """The phases of its request, each with what has become of it; none if it names none."""
    times = phase_times(run)
    shown: list[PhaseView] = []
    for number, phase in enumerate(spec.phases):
        view = PhaseView(
            name=phase.name,
            state=PENDING,
            needs_confirmation=phase.needs_confirmation and not spec.auto_confirm,
            read_only=phase.read_only,
            retryable=phase.retryable,
        )
        if number < len(times):
            done = times[number]
            found = {"attempt": done.attempt, "begun_at": done.begun_at, "ended_at": done.ended_at}
            view = view.model_copy(update={"state": RunState.FINISHED.value, "exit_code": 0, **found})
        elif number == run.phase and (run.begun_at or run.is_final):
            found = {"begun_at": run.begun_at, "ended_at": run.ended_at, "exit_code": run.exit_code}
            began = {"attempt": run.attempt, **found} if run.begun_at else {}
            view = view.model_copy(update={"state": run.state.value, **began})
        shown.append(view)
    return shown
