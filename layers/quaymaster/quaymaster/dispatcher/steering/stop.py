"""Stop and kill: a run that has begun is ended, and counts as running until its process is surely gone."""

from quaymaster.dispatcher.placing.announce import send_end
from quaymaster.dispatcher.steering.found import conflict, steer
from quaymaster.dispatcher.workers.presence import ring
from quaymaster.domain import deadlines
from quaymaster.domain.pool import Pool
from quaymaster.domain.replacing import replace
from quaymaster.domain.run import Ending, Run
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.steering import stopping
from quaymaster.errors import NotFound, Unavailable
from quaymaster.ports import Ports, Replace


def stop_run(ports: Ports, run_id: str, by: str, note: str = "", *, at_once: bool = False) -> Run:
    """Have the run's command ended: by SIGTERM and the pool's grace, or (`at_once`) by SIGKILL.

    Saying it twice tells its worker once more; a kill hastens a stop. Raises NotFound, Conflict for a run that does not
    run or that something else ends already, Busy when others kept writing.
    """
    return steer(ports.store, run_id, lambda run: _stop(ports, run, by, note, at_once=at_once))


def _stop(ports: Ports, run: Run, by: str, note: str, *, at_once: bool) -> Run:
    if run.state is RunState.STOPPED:
        return run
    if run.is_final:
        raise conflict(run, "a run that has not ended")
    if run.state is RunState.UNCONFIRMED:
        raise conflict(run, "a run that runs: discard this one")
    if run.state is not RunState.RUNNING:
        raise conflict(run, "a run that has begun: cancel this one")
    if run.ending and run.ending.reason is not Reason.BY_USER:
        raise conflict(run, "a run that nothing else ends")
    pool = ports.store.pool(run.pool_id)
    if not pool:
        raise NotFound("pool", run.pool_id)
    is_decided = run.ending and (run.ending.kill_at is None or not at_once)
    after = run if is_decided else _decide(ports, pool, run, by, note, at_once=at_once)
    if after.ending:
        _tell(ports, after, after.ending)
    return after


def _decide(ports: Ports, pool: Pool, run: Run, by: str, note: str, *, at_once: bool) -> Run:
    now, settings = ports.clock(), pool.settings
    grace = None if at_once else settings.stop_grace
    decided = stopping(run, now, by, note, grace=grace, lost_after=settings.lost_after)
    decided = replace(decided, due_at=deadlines.next_look(decided, settings, now))
    ports.store.commit(Replace(decided))
    ports.log("run_stopped" if grace is not None else "run_killed", {"run": run.id, "attempt": run.attempt, "by": by})
    ring(ports, pool.id, run.key, settings.lost_after)
    return decided


def _tell(ports: Ports, run: Run, ending: Ending) -> None:
    try:
        send_end(ports, run, ending)
    except Unavailable as error:
        # The deadline of its ending is written: the next sweep tells its worker again.
        ports.log("kill_not_sent", {"run": run.id, "note": str(error)[:120]})
