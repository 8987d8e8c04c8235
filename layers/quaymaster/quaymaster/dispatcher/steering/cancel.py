"""Cancel: a run that has not begun never will. Of cancel and begin one wins: both are writes of the run's item."""

from quaymaster.dispatcher.placing.announce import send_refused
from quaymaster.dispatcher.replies import tell_end
from quaymaster.dispatcher.settle import Settled, unlogged
from quaymaster.dispatcher.steering.found import conflict, steer
from quaymaster.dispatcher.workers.presence import take_from_worker
from quaymaster.domain.pool import ticket_for
from quaymaster.domain.run import Run
from quaymaster.domain.states import RunState
from quaymaster.domain.steering import canceled
from quaymaster.errors import Unavailable
from quaymaster.ports import Delete, Ports, Replace, Write


def cancel_run(ports: Ports, run_id: str, by: str, note: str = "") -> Run:
    """The run, canceled; saying it twice changes nothing.

    Raises NotFound, Conflict for a run that has begun or has ended otherwise, Busy when others kept writing.
    """
    return steer(ports.store, run_id, lambda run: _cancel(ports, run, by, note))


def _cancel(ports: Ports, run: Run, by: str, note: str) -> Run:
    if run.state is RunState.CANCELED:
        return run
    if run.is_final:
        raise conflict(run, "a run that has not ended")
    if run.state is RunState.UNCONFIRMED:
        raise conflict(run, "a run that has not begun: discard this one")
    if run.state is RunState.RUNNING:
        raise conflict(run, "a run that has not begun: stop this one, or kill it")
    now = ports.clock()
    after = unlogged(canceled(run, now, by, note), now)
    if run.state is RunState.PREPARING:
        _take_back(ports, run, after)
    else:
        _end_waiting(ports, run, after)
    return tell_end(ports, after)


def _end_waiting(ports: Ports, run: Run, after: Run) -> None:
    ticket: tuple[Write, ...] = (Delete(ticket_for(run)),) if run.state is RunState.READY else ()
    ports.store.commit(Replace(after), *ticket)
    ports.log("run_ended", {"run": run.id, "state": after.state, "reason": after.reason, "attempt": run.attempt})


def _take_back(ports: Ports, run: Run, after: Run) -> None:
    """Its worker prepares it: it is told, and asked to register again, which makes it idle."""
    pool = ports.store.pool(run.pool_id)
    if not pool:
        _end_waiting(ports, run, after)
        return
    take_from_worker(ports, pool, run, Settled(run=after, writes=(Replace(after),)), "its run was canceled")
    if not run.worker or not run.session:
        return
    try:
        send_refused(ports, run.pool_id, run.worker, run.session, run.id, run.attempt)
    except Unavailable as error:
        # It would ask for `go` and be refused then.
        ports.log("refusal_not_sent", {"run": run.id, "note": str(error)[:120]})
