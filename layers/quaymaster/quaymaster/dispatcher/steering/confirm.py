"""Confirm and discard: what others have to agree to goes on, on any worker, or ends. Of the two the first one wins."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from quaymaster.dispatcher.replies import tell_end
from quaymaster.dispatcher.settle import unlogged
from quaymaster.dispatcher.steering.found import conflict, steer
from quaymaster.domain.api import ConfirmRun
from quaymaster.domain.pool import ticket_for
from quaymaster.domain.run import Run
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.steering import confirmed, discarded
from quaymaster.domain.wakes import Wake
from quaymaster.errors import QuaymasterError
from quaymaster.ports import Create, Ports, Replace, Write


def confirm_run(ports: Ports, run_id: str, by: str, request: ConfirmRun) -> Run:
    """Let the run go on with what needs confirmation; saying it again changes nothing.

    A request that names the phase can come twice, however late: it confirms no other. Raises NotFound, Conflict for a
    run that waits for nothing or for another phase, Busy when others kept writing.
    """
    spec = ports.store.specs([run_id]).get(run_id) if request.phase else None
    names = [phase.name for phase in spec.phases] if spec else []

    def is_done(run: Run) -> bool:
        if run.state is RunState.UNCONFIRMED:
            return request.phase in names[: run.phase]
        return run.confirmed_at is not None and run.state is not RunState.DISCARDED

    def change(run: Run, now: datetime) -> tuple[Run, tuple[Write, ...]]:
        if names and names[run.phase] != request.phase:
            raise conflict(run, f"the phase that waits for confirmation, which is {names[run.phase]}")
        after = confirmed(run, now, by, request.note)
        return after, (Create(ticket_for(after)), *_told(ports, run_id, request.metadata))

    run = _change(ports, run_id, change, is_done, "confirm")
    if run.state is RunState.READY:
        try:
            ports.queue.wake(Wake(run.pool_id), timedelta(0))
        except QuaymasterError as error:
            # Its ticket is written: the next sweep gives it a worker.
            ports.log("not_woken", {"run": run.id, "note": str(error)[:120]})
    return run


def discard_run(ports: Ports, run_id: str, by: str, note: str = "") -> Run:
    """End the run before what needs confirmation; saying it twice changes nothing.

    Raises NotFound, Conflict for a run that waits for nothing, Busy when others kept writing.
    """

    def change(run: Run, now: datetime) -> tuple[Run, tuple[Write, ...]]:
        return unlogged(discarded(run, now, by, note), now), ()

    return tell_end(ports, _change(ports, run_id, change, _was_discarded, "discard"))


def _was_discarded(run: Run) -> bool:
    return run.state is RunState.DISCARDED and run.reason is Reason.BY_USER


def _told(ports: Ports, run_id: str, metadata: Mapping[str, str]) -> tuple[Write, ...]:
    """What was said with the confirmation goes to what the next attempt reads."""
    spec = ports.store.specs([run_id]).get(run_id) if metadata else None
    if not spec:
        return ()
    return (Replace(replace(spec, version=spec.version + 1, metadata={**spec.metadata, **metadata})),)


def _change(
    ports: Ports,
    run_id: str,
    change: Callable[[Run, datetime], tuple[Run, tuple[Write, ...]]],
    done: Callable[[Run], bool],
    what: str,
) -> Run:
    def once(run: Run) -> Run:
        if done(run):
            return run
        if run.state is not RunState.UNCONFIRMED:
            raise conflict(run, f"a run that waits for confirmation (UNCONFIRMED), to {what} it")
        after, beside = change(run, ports.clock())
        ports.store.commit(Replace(after), *beside)
        ports.log(f"run_{what}ed", {"run": run.id, "attempt": run.attempt, "phase": run.phase})
        return after

    return steer(ports.store, run_id, once)
