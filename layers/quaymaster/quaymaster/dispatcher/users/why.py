"""Why a run is where it is, in one line that names what it waits for."""

from datetime import datetime

from quaymaster.dispatcher.users.views import TICKETS_COUNTED, count_pool, launch_note
from quaymaster.dispatcher.users.waiting import OwnTask, Surroundings, span, waiting
from quaymaster.domain.pool import Pool
from quaymaster.domain.run import Run
from quaymaster.domain.states import RunState
from quaymaster.ports import Ports


def explain_run(ports: Ports, run: Run) -> str:
    """One line about a run, from what the table says now."""
    pool = ports.store.pool(run.pool_id)
    if not pool:
        return f"its pool {run.pool_id} does not exist any more"
    counters, starts = ports.store.counters(pool.id), ports.store.starts(pool.id)
    surroundings = Surroundings(
        pool=pool,
        counts=count_pool(ports.store, pool.id),
        reserved=counters.workers_reserved if counters else 0,
        launch_note=launch_note(ports.store.launches(pool.id), starts),
        trouble=starts.trouble if starts else None,
        drought=starts.drought if starts else None,
        queue=ports.store.tickets(pool.id, TICKETS_COUNTED),
        own=_own_task(ports, pool, run) if run.bound else None,
        now=ports.clock(),
    )
    return explain(run, surroundings)


def _own_task(ports: Ports, pool: Pool, run: Run) -> OwnTask:
    spec = ports.store.specs([run.id]).get(run.id)
    image = (spec.image if spec else None) or ""
    found = (launch for launch in ports.store.launches(pool.id) if launch.run == run.id and launch.starting)
    return OwnTask(
        image=image,
        definition=ports.store.image_definition(pool.id, pool.task_definition or "", image),
        launch=next(found, None),
    )


def explain(run: Run, around: Surroundings) -> str:
    """One line about a run."""
    if run.is_final:
        return _how_it_ended(run)
    if run.ending:
        deadline = run.ending.deadline.isoformat(timespec="seconds")
        return (
            f"it is being ended as {run.ending.reason} by {run.ending.by}, and counts as running until its process is "
            f"surely gone, at the latest by {deadline}"
        )
    match run.state:
        case RunState.RUNNING:
            return _running(run, around.now)
        case RunState.PREPARING:
            return _preparing(run, around.now)
        case RunState.UNCONFIRMED:
            return _unconfirmed(run)
        case RunState.READY:
            return waiting(run, around)
        case _:
            return "it is blocked by another run"


def _how_it_ended(run: Run) -> str:
    text = f"it ended as {run.state}"
    if run.reason:
        text += f", reason {run.reason}"
    if run.exit_code is not None:
        text += f", exit code {run.exit_code}"
    return f"{text}: {run.note}" if run.note else text


def _unconfirmed(run: Run) -> str:
    by_then = f"; it is discarded at {run.confirm_by.isoformat(timespec='seconds')}" if run.confirm_by else ""
    done = (
        f"phase {run.phase} of {run.phases} has finished"
        if run.phase == 1
        else f"{run.phase} of {run.phases} phases have finished"
    )
    how = f"`quaymaster run confirm {run.id}` lets it go on, `quaymaster run discard {run.id}` ends it"
    return f"{done}, and the next one needs confirmation: {how}{by_then}"


def _running(run: Run, now: datetime) -> str:
    text = f"it runs on {run.worker}"
    if run.begun_at:
        text += f" for {span(run.begun_at, now)}"
    if run.upload_failing:
        text += "; its worker says that it cannot upload the log"
    return text


def _preparing(run: Run, now: datetime) -> str:
    since = span(run.claimed_at, now) if run.claimed_at else "a moment"
    if run.answered_at:
        return f"{run.worker} has been preparing it (image, workspace) for {since}"
    again = "; it was offered a second time" if run.resent_at else ""
    return f"it was offered to {run.worker} {since} ago, which has not answered yet{again}"
