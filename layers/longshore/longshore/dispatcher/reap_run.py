"""A run that is due: overrun, silent, never prepared, not gone although it was killed, or without its log.

The worker enforces its timeouts exactly; this is the independent second enforcer, with slack.
"""

from dataclasses import replace

from longshore.dispatcher.announce import send_refused
from longshore.dispatcher.assemble import assemble
from longshore.dispatcher.finish import task_of
from longshore.dispatcher.pool_cache import Pools
from longshore.dispatcher.presence import LONGEST_WAKE
from longshore.dispatcher.release import Release, release
from longshore.dispatcher.settle import Loss, end_with
from longshore.domain import deadlines
from longshore.domain.messages import Kill, LogEnd
from longshore.domain.pool import Pool
from longshore.domain.run import Ending, Run, failed, touched
from longshore.domain.states import Reason, RunState
from longshore.domain.worker import asked
from longshore.errors import LongshoreError, Lost
from longshore.ports import Ports, Replace, Wake, Write


def reap_run(ports: Ports, pools: Pools, pool: Pool, run: Run) -> None:
    """Decide a due run. Raises Unavailable when the bucket must be asked and does not answer: nobody is killed then."""
    now = ports.clock()
    if run.is_final:
        assemble(ports, run)
    elif run.state is RunState.PREPARING:
        if now >= deadlines.prepare_deadline(run, pool.settings):
            _give_up_preparing(ports, pools, pool, run)
        else:
            _look_later(ports, pool, run)
    elif run.state is not RunState.RUNNING:
        ports.store.commit(Replace(touched(run, due_at=None)))
    elif run.ending:
        _end_anyway(ports, pools, pool, run)
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
    try:
        ports.store.commit(Replace(touched(run, due_at=deadlines.next_look(run, pool.settings))))
    except Lost:
        ports.log("event_ignored", {"run": run.id, "note": "changed meanwhile"})


def _end(ports: Ports, pools: Pools, pool: Pool, run: Run, reason: Reason) -> None:
    """Kill what overran or went silent. The run is `ending` until its process is surely gone."""
    end = ports.blobs.log_end(run.pool_id, run.id, run.attempt)
    if end:
        _end_with_marker(ports, pools, run, end)
        return
    now = ports.clock()
    deadline = now + pool.settings.lost_after
    ending = Ending(state=RunState.FAILED, reason=reason, by="reaper", deadline=deadline)
    try:
        ports.store.commit(Replace(touched(run, ending=ending, due_at=deadline)))
    except Lost:
        ports.log("event_ignored", {"run": run.id, "note": "changed meanwhile"})
        return
    ports.log("run_killed", {"run": run.id, "attempt": run.attempt, "reason": reason})
    _kill(ports, run, reason)
    ports.queue.wake(Wake(pool_id=pool.id, key=run.key), min(pool.settings.lost_after, LONGEST_WAKE))


def _kill(ports: Ports, run: Run, reason: Reason) -> None:
    worker = ports.store.worker(run.pool_id, run.worker or "")
    if not worker:
        return
    try:
        message = Kill(session=run.session, run=run.id, attempt=run.attempt, reason=reason)
        ports.messenger.send(run.pool_id, worker.id, message)
        arn = task_of(ports, worker)
        if arn:
            ports.tasks.stop(arn, f"longshore: {reason}")
    except LongshoreError as error:
        # The deadline of its ending is written: the next look ends the run even so.
        ports.log("kill_not_sent", {"run": run.id, "note": str(error)[:120]})


def _end_with_marker(ports: Ports, pools: Pools, run: Run, end: LogEnd) -> None:
    """The worker had finished and only its message was lost: the run ends with the outcome in its end marker."""
    worker = ports.store.worker(run.pool_id, run.worker or "")
    settled = end_with(run, end, ports.clock())
    writes: list[Write] = list(settled.writes)
    if worker and (worker.run, worker.attempt) == (run.id, run.attempt):
        after = asked(worker, "its last report never came", ports.clock() + (run.log_timeout or LONGEST_WAKE))
        writes.append(Replace(after))
    ports.store.commit(*writes)


def _end_anyway(ports: Ports, pools: Pools, pool: Pool, run: Run) -> None:
    """It was told to end and had all the time that a lease, a kill and a report can take."""
    due_at = ports.clock() + pool.settings.accept_timeout
    reason = run.ending.reason if run.ending else Reason.KILLED
    loss = Loss(reason=reason, by="reaper", note=f"{reason}; its worker did not answer the kill")
    how = Release(
        loss=loss,
        after=lambda found: asked(found, "did not answer a kill", due_at),
        still=lambda _, held: held is not None and held.version == run.version,
    )
    if not release(ports, pools, run.pool_id, run.worker or "", how):
        current = ports.store.run(run.id)
        if current and current.version == run.version:
            _end_alone(ports, run, reason)


def _end_alone(ports: Ports, run: Run, reason: Reason) -> None:
    """Its worker's item is gone or holds something else: the run ends by itself."""
    now = ports.clock()
    ended = replace(
        failed(run, reason, now, "reaper", "its worker is gone"), due_at=now, expires_at=now + deadlines.RETENTION
    )
    ports.store.commit(Replace(ended))
    assemble(ports, ended)


def _give_up_preparing(ports: Ports, pools: Pools, pool: Pool, run: Run) -> None:
    worker = ports.store.worker(run.pool_id, run.worker or "")
    now = ports.clock()
    ended = failed(run, Reason.PREPARE_TIMEOUT, now, "reaper", "it was not prepared in time")
    ended = replace(ended, due_at=now, expires_at=now + deadlines.RETENTION)
    writes: list[Write] = [Replace(ended)]
    if worker and (worker.run, worker.attempt) == (run.id, run.attempt):
        writes.append(Replace(asked(worker, "a preparation took too long", now + pool.settings.accept_timeout)))
    ports.store.commit(*writes)
    if run.worker and run.session:
        send_refused(ports, run.pool_id, run.worker, run.session, run.id, run.attempt)
    assemble(ports, ended)
