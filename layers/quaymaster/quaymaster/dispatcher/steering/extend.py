"""Extend: a run that has begun gets longer timeouts, which its worker and the control plane keep."""

from datetime import timedelta

from quaymaster.dispatcher.steering.found import conflict, steer
from quaymaster.domain.durations import format_duration
from quaymaster.domain.messages import Extend
from quaymaster.domain.pool import Pool
from quaymaster.domain.run import Run, Timeouts
from quaymaster.domain.states import RunState
from quaymaster.domain.steering import extended, extension
from quaymaster.domain.worker import Worker
from quaymaster.errors import NotFound, Refused
from quaymaster.ports import Ports, Replace


def extend_run(
    ports: Ports, run_id: str, by: str, note: str, log_timeout: timedelta | None, run_timeout: timedelta | None
) -> Run:
    """The run with these timeouts, counted from its beginning; None: as it is. Saying it twice changes nothing more.

    The sweep finds its deadlines moved when it next looks at it. Raises NotFound, Refused for more than the pool or the
    worker's launcher allows, or less than there is, Conflict for a run that does not run or is being ended, Busy when
    others kept writing, Unavailable when its worker cannot be told: then say it again.
    """

    def once(run: Run) -> Run:
        if run.state is not RunState.RUNNING or run.ending or not run.log_timeout or not run.run_timeout:
            raise conflict(run, "a run that has begun and that nothing ends: its timeouts count from its beginning")
        wanted = Timeouts(log=log_timeout or run.log_timeout, run=run_timeout or run.run_timeout)
        return _extend(ports, run, wanted, by, note)

    return steer(ports.store, run_id, once)


def _extend(ports: Ports, run: Run, wanted: Timeouts, by: str, note: str) -> Run:
    pool = ports.store.pool(run.pool_id)
    if not pool:
        raise NotFound("pool", run.pool_id)
    _check(run, wanted, pool, ports.store.worker(run.pool_id, run.worker or ""))
    after, told = run, extension(run, wanted)
    if told:
        after = extended(run, ports.clock(), by, note, wanted)
        ports.store.commit(Replace(after))
        ports.log("run_extended", {"run": run.id, "attempt": run.attempt, "by": by, "note": "; ".join(told)})
    _tell(ports, after, wanted, f"{'; '.join(told)}, by {by}" + (f": {note}" if note else ""))
    return after


def _check(run: Run, wanted: Timeouts, pool: Pool, worker: Worker | None) -> None:
    settings = pool.settings
    for name, new, old, most, launcher in (
        ("log_timeout", wanted.log, run.log_timeout, settings.max_log_timeout, worker and worker.log_limit),
        ("run_timeout", wanted.run, run.run_timeout, settings.max_run_timeout, worker and worker.run_limit),
    ):
        if old and new < old:
            raise Refused(name, format_duration(new), f"at least {format_duration(old)}, which the run has")
        if new > most:
            raise Refused(name, format_duration(new), f"pool {pool.name} allows at most {format_duration(most)}")
        if launcher and new > launcher:
            raise Refused(name, format_duration(new), f"its worker's host allows at most {format_duration(launcher)}")


def _tell(ports: Ports, run: Run, timeouts: Timeouts, note: str) -> None:
    if run.worker:
        message = Extend(
            session=run.session,
            run=run.id,
            attempt=run.attempt,
            phase=run.phase,
            log_timeout_seconds=timeouts.log.total_seconds(),
            run_timeout_seconds=timeouts.run.total_seconds(),
            note=note,
        )
        ports.messenger.send(run.pool_id, run.worker, message)
