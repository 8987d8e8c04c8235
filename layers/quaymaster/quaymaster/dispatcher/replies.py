"""Telling whoever asked for a run how it ended, on the topic that the request named.

A run that owes its requester this is due from its end on, so that the sweep makes up for an answer that was not sent.
It is told at least once: what is told and not written down is told again.
"""

from quaymaster.domain import objects
from quaymaster.domain.requests import EndReply
from quaymaster.domain.run import Run, Spec, touched
from quaymaster.errors import Busy, Lost, QuaymasterError, Unavailable
from quaymaster.ports import Ports, Replace


def tell_end(ports: Ports, run: Run) -> Run:
    """Tell it, if that is still owed; the run as it then stands. One that cannot be told now stays due."""
    if not run.is_final or not run.owes_reply:
        return run
    spec = ports.store.specs([run.id]).get(run.id)
    try:
        if spec and spec.reply_to:
            ports.messenger.reply(spec.reply_to, _reply(run, spec))
    except Unavailable as error:
        ports.log("reply_not_sent", {"run": run.id, "note": str(error)[:120]})
        return run
    except QuaymasterError as error:
        # Nobody will ever hear it there.
        ports.log("reply_not_sent", {"run": run.id, "note": str(error)[:120]})
    told = touched(run, owes_reply=False, due_at=None if _is_whole(run) else run.due_at)
    try:
        ports.store.commit(Replace(told))
    except (Lost, Busy):
        ports.log("event_ignored", {"run": run.id, "note": "changed meanwhile"})
        return run
    return told


def _is_whole(run: Run) -> bool:
    """Whether nothing else is to be done about it: its log lies in the bucket, or there is none."""
    return not run.attempt or bool(run.log and run.log.complete and not run.began_before)


def _reply(run: Run, spec: Spec) -> EndReply:
    return EndReply(
        id=spec.request_id,
        run=run.id,
        state=run.state,
        reason=run.reason,
        exit_code=run.exit_code,
        note=run.note,
        attempt=run.attempt,
        log=objects.log_key(run.pool_id, run.id, run.attempt) if run.attempt else None,
    )
