"""Submission: requests become runs, each given to an idle worker at once or written with a ticket.

A batch costs one read and one transaction, and one publish for each run that found a worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from longshore.dispatcher.announce import Assignment, announce, repeat
from longshore.dispatcher.match import IDLE_PAGE, match
from longshore.dispatcher.pool_cache import Pools
from longshore.domain import deadlines, ids
from longshore.domain.placement import shuffled
from longshore.domain.pool import Pool, ticket_for
from longshore.domain.requests import RunRequest
from longshore.domain.run import Run, Spec, accepted, claimed
from longshore.domain.states import RunState
from longshore.domain.worker import Marker, occupied
from longshore.errors import Busy, LongshoreError, Lost, Refused
from longshore.ports import MAX_CLAIMS, Create, Delete, Ports, Replace, Write, pages


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A request as it came in. `delivery` identifies its message, for requests that bring no id of their own."""

    request: RunRequest
    delivery: str
    by: str


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What became of a submission: a run (new, or the one that its id led to), or the error that kept it out."""

    submission: Submission
    run: Run | None = None
    error: LongshoreError | None = None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A run that is not yet written."""

    submission: Submission
    run: Run
    spec: Spec


def submit(ports: Ports, pools: Pools, submissions: Sequence[Submission]) -> list[Submitted]:
    """Accept each request once. A refused one does not keep the others out."""
    outcomes: list[Submitted] = []
    by_pool: dict[str, tuple[Pool, list[Draft]]] = {}
    for submission in submissions:
        try:
            pool = pools.find(submission.request.pool)
            draft = _draft(ports, pool, submission)
        except LongshoreError as error:
            outcomes.append(Submitted(submission=submission, error=error))
            continue
        by_pool.setdefault(pool.id, (pool, []))[1].append(draft)
    for pool, drafts in by_pool.values():
        outcomes += _submit_to(ports, pools, pool, drafts)
    return outcomes


def _draft(ports: Ports, pool: Pool, submission: Submission) -> Draft:
    request = submission.request
    check_timeouts(request, pool)
    if request.workspace and request.workspace.key.split("/")[1] != pool.id:
        raise Refused("workspace.key", repr(request.workspace.key), f"a key below inputs/{pool.id}/")
    now = ports.clock()
    request_id = request.id or submission.delivery
    run_id = ids.run_id(pool.id, request_id)
    run = Run(
        id=run_id,
        pool_id=pool.id,
        type=request.type,
        stack=request.stack,
        state=RunState.READY,
        accepted_at=now,
        retryable=request.retryable,
    )
    spec = Spec(
        run_id=run_id,
        request_id=request_id,
        command=tuple(request.command),
        environment=request.environment,
        image=request.image,
        workspace=request.workspace,
        log_timeout=request.log_timeout,
        run_timeout=request.run_timeout,
        expires_at=now + deadlines.RETENTION * 2,
    )
    return Draft(submission=submission, run=accepted(run, now, submission.by), spec=spec)


def check_timeouts(request: RunRequest, pool: Pool) -> None:
    """Raises Refused for a timeout above the pool's maximum."""
    settings = pool.settings
    for field, wanted, most in (
        ("log_timeout", request.log_timeout, settings.max_log_timeout),
        ("run_timeout", request.run_timeout, settings.max_run_timeout),
    ):
        if wanted and wanted > most:
            raise Refused(field, wanted, f"pool {pool.name} allows at most {most}")


def _submit_to(ports: Ports, pools: Pools, pool: Pool, drafts: list[Draft]) -> list[Submitted]:
    unique = {draft.run.id: draft for draft in drafts}
    markers = shuffled(ports.store.idle(pool.id, IDLE_PAGE), ports.random(32))
    written: dict[str, Run] = {}
    errors: dict[str, LongshoreError] = {}
    for batch in pages(list(unique.values()), MAX_CLAIMS):
        _write(ports, pool, list(batch), markers, written, errors)
    for run_id, run in list(written.items()):
        try:
            _announce(ports, pool, unique[run_id], run)
        except LongshoreError as error:
            errors[run_id] = error
    if any(run.state is RunState.READY for run in written.values()):
        try:
            match(ports, pools, pool.id)
        except LongshoreError as error:
            errors |= {run_id: error for run_id, run in written.items() if run.state is RunState.READY}
    return [
        Submitted(submission=draft.submission, run=written.get(draft.run.id), error=errors.get(draft.run.id))
        for draft in drafts
    ]


def _announce(ports: Ports, pool: Pool, draft: Draft, run: Run) -> None:
    if run.state is not RunState.PREPARING:
        return
    if run.version == 2 and run.claimed_at == draft.run.accepted_at:
        announce(ports, pool, Assignment(run=run, spec=draft.spec))
    else:
        repeat(ports, pool, run)


def _write(
    ports: Ports,
    pool: Pool,
    batch: list[Draft],
    markers: list[Marker],
    written: dict[str, Run],
    errors: dict[str, LongshoreError],
) -> None:
    """Write a batch in one transaction; whatever lost is taken out of it, and the rest is tried again."""
    while batch:
        offers: dict[str, Marker] = dict(zip((draft.run.id for draft in batch), markers, strict=False))
        runs, writes = _plan(pool, batch, offers)
        try:
            ports.store.commit(*writes)
        except Lost as lost:
            markers[:] = [m for m in markers if m.key not in lost.keys and m.worker.key not in lost.keys]
            known = [draft for draft in batch if draft.run.key in lost.keys or draft.spec.key in lost.keys]
            for draft in known:
                _find_duplicate(ports, draft, written, errors)
            batch = [draft for draft in batch if draft not in known]
        except Busy as busy:
            if len(batch) == 1:
                errors[batch[0].run.id] = busy
                return
            half = len(batch) // 2
            _write(ports, pool, batch[:half], markers, written, errors)
            batch = batch[half:]
        else:
            written |= runs
            del markers[: len(offers)]
            return


def _plan(pool: Pool, batch: list[Draft], offers: dict[str, Marker]) -> tuple[dict[str, Run], list[Write]]:
    runs: dict[str, Run] = {}
    writes: list[Write] = []
    for draft in batch:
        run = draft.run
        if marker := offers.get(run.id):
            timeouts = deadlines.effective(draft.spec, pool.settings, marker.worker)
            due_at = deadlines.first_look(timeouts, pool.settings, run.accepted_at)
            run = claimed(run, marker.worker.id, marker.worker.session, run.accepted_at, timeouts, due_at)
            worker = occupied(marker.worker, run.id, run.attempt, run.accepted_at)
            writes += [Delete(marker), Replace(worker)]
        else:
            writes.append(Create(ticket_for(run)))
        writes += [Create(run), Create(draft.spec)]
        runs[run.id] = run
    return runs, writes


def _find_duplicate(ports: Ports, draft: Draft, written: dict[str, Run], errors: dict[str, LongshoreError]) -> None:
    """A request that came before: its run is the answer, and whatever its first delivery left undone is done."""
    run = ports.store.run(draft.run.id)
    if run:
        written[run.id] = run
        ports.log("request_repeated", {"run": run.id, "state": run.state})
    else:
        errors[draft.run.id] = Busy(f"run {draft.run.id} is being written")


__all__ = ["Submission", "Submitted", "check_timeouts", "submit"]
