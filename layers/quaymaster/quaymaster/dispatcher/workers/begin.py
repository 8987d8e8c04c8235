"""`preparing`, `prepared`, `renew`: the way of an attempt from its offer to `go`, and its grants while it runs.

Nothing begins without the table's word: `go` is sent after the conditional write PREPARING to RUNNING, so that of a
cancel and a begin exactly one wins.
"""

from datetime import timedelta

from quaymaster.dispatcher.placing.announce import repeat, send_refused
from quaymaster.dispatcher.workers.sender import Sender
from quaymaster.domain import deadlines
from quaymaster.domain.messages import ImageUsed, NewGrants, Prepared, Preparing, Renew
from quaymaster.domain.replacing import replace
from quaymaster.domain.run import Run, begun, next_phase, touched
from quaymaster.domain.states import RunState
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Ports, Replace

TRIES = 5


def prepared(ports: Ports, sender: Sender, message: Prepared) -> None:
    """Begin the run, or say that the attempt is no longer the worker's. Safe to repeat: `go` is then sent again."""
    for _ in range(TRIES):
        run = _held(ports, sender, message.session, message.run, message.attempt)
        if not run:
            _refuse(ports, sender, message.session, message.run, message.attempt, "prepared")
            return
        begins = run.state is RunState.PREPARING
        try:
            if begins:
                run = _begin(ports, run, message.image)
            elif message.phase == run.phase + 1 < run.leg_end and not run.ending:
                run = _go_on(ports, sender, run)
        except Lost:
            continue
        # `go`, or the end that was decided between two phases.
        repeat(ports, sender.pool, run)
        if begins:
            # Last: the command waits for what comes before.
            waited = (run.begun_at or run.accepted_at) - run.accepted_at
            waited_ms = round(waited / timedelta(milliseconds=1))
            ports.log("run_begun", {"run": run.id, "attempt": run.attempt, "wait_ms": waited_ms})
        return
    raise Busy(f"run {message.run}: others kept writing")


def _begin(ports: Ports, run: Run, image: ImageUsed | None) -> Run:
    started = begun(run, ports.clock(), image)
    ports.store.commit(Replace(started))
    return started


def _go_on(ports: Ports, sender: Sender, run: Run) -> Run:
    """The phase has finished, and the next one of its leg begins, with its own timeouts."""
    worker = ports.store.worker(sender.pool.id, sender.worker_id)
    found = ports.store.run_and_spec(run.id)
    if not worker or not found or found[0].version != run.version:
        raise Lost((run.key,))
    now, spec, settings = ports.clock(), found[1], sender.pool.settings
    number = run.phase + 1
    timeouts = deadlines.effective(spec, settings, worker, number)
    after = next_phase(run, now, timeouts, retryable=spec.phases[number].retryable)
    look = deadlines.next_look(after, settings, now)
    after = replace(after, due_at=min(run.due_at or look, look))
    ports.store.commit(Replace(after))
    ports.log("phase_begun", {"run": run.id, "attempt": run.attempt, "phase": number})
    return after


def preparing(ports: Ports, sender: Sender, message: Preparing) -> None:
    """A slow preparation: the offer counts as answered. Written once for each offer."""
    run = _held(ports, sender, message.session, message.run, message.attempt)
    if not run:
        _refuse(ports, sender, message.session, message.run, message.attempt, "preparing")
        return
    if run.state is RunState.PREPARING and not run.answered_at:
        _touch(ports, touched(run, answered_at=sender.at))


def renew(ports: Ports, sender: Sender, message: Renew) -> None:
    """New grants; and when the worker cannot upload, the run shows it and its last output counts as heard."""
    run = _held(ports, sender, message.session, message.run, message.attempt)
    if not run:
        _refuse(ports, sender, message.session, message.run, message.attempt, "renew")
        return
    failing = message.uploads == "failing"
    if run.state is RunState.RUNNING and (failing or run.upload_failing or message.unseen):
        output_at = sender.at - timedelta(seconds=message.quiet_seconds)
        _touch(ports, touched(run, output_at=output_at, upload_failing=failing))
    if message.unseen:
        return
    grants = ports.blobs.grants(run.pool_id, run.id, run.attempt, sender.pool.settings, pack=run.needs_confirmation)
    answer = NewGrants(session=message.session, run=run.id, attempt=run.attempt, grants=grants)
    ports.messenger.send(run.pool_id, sender.worker_id, answer)


def _touch(ports: Ports, run: Run) -> None:
    try:
        ports.store.commit(Replace(run))
    except Lost:
        # The message is repeated while its cause lasts, and the next one finds the newer item.
        ports.log("event_ignored", {"run": run.id, "note": "changed meanwhile"})


def _held(ports: Ports, sender: Sender, session: str, run_id: str, attempt: int) -> Run | None:
    run = ports.store.run(run_id)
    held = run and run.pool_id == sender.pool.id and run.held_by(sender.worker_id, session, attempt)
    return run if held else None


def _refuse(ports: Ports, sender: Sender, session: str, run_id: str, attempt: int, event: str) -> None:
    ports.log("event_ignored", {"event": event, "worker": sender.worker_id, "run": run_id, "note": "not its attempt"})
    send_refused(ports, sender.pool.id, sender.worker_id, session, run_id, attempt)
