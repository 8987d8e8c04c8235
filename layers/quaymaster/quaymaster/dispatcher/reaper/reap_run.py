"""A run that is due: overrun, silent, never prepared, or not gone although it was killed.

The worker enforces its timeouts exactly; this is the independent second enforcer, with slack.
"""

from dataclasses import replace

from quaymaster.dispatcher.placing.announce import send_end, send_refused
from quaymaster.dispatcher.placing.match import match
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.release import Release, release
from quaymaster.dispatcher.settle import Loss, Settled, end_with, settle
from quaymaster.dispatcher.workers.finish import task_of
from quaymaster.dispatcher.workers.presence import ask, ring, take_from_worker
from quaymaster.domain import deadlines
from quaymaster.domain.messages import LogEnd
from quaymaster.domain.pool import Pool
from quaymaster.domain.run import Ending, Run, failed, touched
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import WorkerState, asked
from quaymaster.errors import Lost, QuaymasterError, Unavailable
from quaymaster.ports import Ports, Replace


def reap_run(ports: Ports, pools: Pools, pool: Pool, run: Run) -> None:
    """Decide a due run that a worker holds.

    Raises Unavailable when the bucket must be asked and does not answer: nobody is killed then.
    """
    now = ports.clock()
    if run.state is RunState.PREPARING:
        if now >= deadlines.prepare_deadline(run, pool.settings):
            _give_up_preparing(ports, pool, run)
        else:
            _look_later(ports, pool, run)
    elif run.ending:
        _follow_ending(ports, pools, pool, run, run.ending)
    elif now >= deadlines.run_deadline(run, pool.settings):
        _end(ports, pools, pool, run, Reason.RUN_TIMEOUT)
    else:
        _judge_silence(ports, pools, pool, run)


def _judge_silence(ports: Ports, pools: Pools, pool: Pool, run: Run) -> None:
    """The log is the heartbeat: its newest chunk decides, and only a LIST that succeeded may call a run silent."""
    chunk = ports.blobs.newest_chunk(run.pool_id, run.id, run.attempt, run.chunk)
    if chunk:
        run = replace(run, chunk=chunk.key, chunk_at=chunk.at)
    if ports.clock() >= deadlines.silence_deadline(run, pool.settings):
        _end(ports, pools, pool, run, Reason.LOG_TIMEOUT)
    else:
        _look_later(ports, pool, run)


def _look_later(ports: Ports, pool: Pool, run: Run) -> None:
    _write(ports, touched(run, due_at=deadlines.next_look(run, pool.settings, ports.clock())))


def _write(ports: Ports, run: Run) -> bool:
    """Whether the run was still as it was read; if not, somebody else has looked after it."""
    try:
        ports.store.commit(Replace(run))
    except Lost:
        ports.log("event_ignored", {"run": run.id, "note": "changed meanwhile"})
        return False
    return True


def _end(ports: Ports, pools: Pools, pool: Pool, run: Run, reason: Reason) -> None:
    """Kill what overran or went silent. The run is `ending` until its process is surely gone."""
    end = _end_marker(ports, run, reason)
    if end:
        _end_with_marker(ports, pools, pool, run, end)
        return
    now = ports.clock()
    ending = Ending(state=RunState.FAILED, reason=reason, by="reaper", deadline=now + pool.settings.lost_after)
    ended = touched(run, ending=ending)
    if not _write(ports, replace(ended, due_at=deadlines.next_look(ended, pool.settings, now))):
        return
    ports.log("run_killed", {"run": run.id, "attempt": run.attempt, "reason": reason})
    _kill(ports, ended, ending)
    ring(ports, pool.id, run.key, pool.settings.lost_after)


def _end_marker(ports: Ports, run: Run, reason: Reason) -> LogEnd | None:
    try:
        return ports.blobs.log_end(run.pool_id, run.id, run.attempt)
    except Unavailable:
        # What overran is killed without the bucket: had it ended, the kill would meet nothing.
        if reason is Reason.RUN_TIMEOUT:
            return None
        raise


def _kill(ports: Ports, run: Run, ending: Ending) -> None:
    worker = ports.store.worker(run.pool_id, run.worker or "")
    if not worker:
        return
    try:
        send_end(ports, run, ending)
        arn = None if ending.still_asks(ports.clock()) else task_of(ports, worker)
        if arn:
            ports.tasks.stop(arn, f"quaymaster: {ending.reason}")
    except QuaymasterError as error:
        # The deadline of its ending is written: the next look does it again.
        ports.log("kill_not_sent", {"run": run.id, "note": str(error)[:120]})


def _end_with_marker(ports: Ports, pools: Pools, pool: Pool, run: Run, end: LogEnd) -> None:
    """The worker had finished and only its message was lost: its end marker says what becomes of the run."""
    settled = end_with(run, end, pool.settings, ports.clock())
    take_from_worker(ports, pool, run, settled, "its last report never came")
    if settled.run.state is RunState.READY:
        match(ports, pools, pool.id)


def _follow_ending(ports: Ports, pools: Pools, pool: Pool, run: Run, ending: Ending) -> None:
    """Kill it again, or end it: it has had all the time that a lease, a kill and a report can take."""
    if ports.clock() < ending.deadline:
        _kill(ports, run, ending)
        _look_later(ports, pool, run)
        return
    wait = pool.settings.accept_timeout
    due_at = ports.clock() + wait
    loss = Loss(reason=ending.reason, by="reaper", note=f"{ending.reason}; its worker did not answer the kill")
    how = Release(
        loss=loss,
        after=lambda found: asked(found, "did not answer a kill", due_at),
        still=lambda _, held: held == run,
    )
    if not release(ports, pools, run.pool_id, run.worker or "", how):
        _end_alone(ports, pool, run, loss)
        return
    worker = ports.store.worker(run.pool_id, run.worker or "")
    if worker and worker.state is WorkerState.ASKED:
        ask(ports, worker, wait)


def _end_alone(ports: Ports, pool: Pool, run: Run, loss: Loss) -> None:
    """Its worker's item is gone or holds something else: the run ends by itself, if it still stands as it was read.

    An end that was decided leads to no other attempt, so the run is all that is written.
    """
    _write(ports, settle(ports, run, pool.settings, loss, ports.clock()).run)


def _give_up_preparing(ports: Ports, pool: Pool, run: Run) -> None:
    now = ports.clock()
    ended = failed(run, Reason.PREPARE_TIMEOUT, now, "reaper", "it was not prepared in time")
    ended = replace(ended, due_at=now, expires_at=now + deadlines.RETENTION)
    settled = Settled(run=ended, writes=(Replace(ended),))
    take_from_worker(ports, pool, run, settled, "a preparation took too long")
    if run.worker and run.session:
        send_refused(ports, run.pool_id, run.worker, run.session, run.id, run.attempt)
