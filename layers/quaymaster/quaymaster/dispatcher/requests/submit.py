"""Submission: requests become runs, each given to an idle worker at once or written with a ticket.

A batch costs one read and one transaction, and one publish for each run that found a worker.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from quaymaster.dispatcher.lifetime import in_time
from quaymaster.dispatcher.placing import spec_object
from quaymaster.dispatcher.placing.announce import Assignment, announce, repeat
from quaymaster.dispatcher.placing.match import IDLE_PAGE, match
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.requests.drafts import Draft, Submission, draft_of, same_again
from quaymaster.domain import deadlines
from quaymaster.domain.placement import shuffled
from quaymaster.domain.pool import Pool, ticket_for
from quaymaster.domain.run import Run, Spec, claimed
from quaymaster.domain.states import RunState
from quaymaster.domain.worker import Marker, occupied
from quaymaster.errors import Busy, Conflict, Lost, NotFound, Refused, Unavailable
from quaymaster.ports import MAX_CLAIMS, Create, Delete, Ports, Replace, Write, pages


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What became of a submission: a run (new, or the one that its id led to), or an error, or both.

    With an error and no run it was kept out; with a run it stands, and its message must come again for what was not
    done yet. Only a submission without a run is ever refused.
    """

    submission: Submission
    run: Run | None = None
    error: Exception | None = None


def submit(ports: Ports, pools: Pools, submissions: Sequence[Submission], until: datetime) -> list[Submitted]:
    """Accept each request once. A refused one does not keep the others out."""
    outcomes: list[Submitted] = []
    by_pool: dict[str, tuple[Pool, list[Draft]]] = {}
    for submission in submissions:
        try:
            pool = pools.find(submission.request.pool)
            draft = draft_of(pool, submission, ports.clock())
            in_time(ports, until)
            spec_object.keep(ports, pool.id, draft.spec)
        except Exception as error:  # whatever one request brings, the others of its batch go on
            outcomes.append(Submitted(submission=submission, error=error))
            continue
        by_pool.setdefault(pool.id, (pool, []))[1].append(draft)
    for pool, drafts in by_pool.values():
        outcomes += _submit_to(ports, pools, pool, drafts, until)
    return outcomes


@dataclass(kw_only=True)
class Progress:
    """How far a batch has come: runs as they stand, whether written now or by an earlier delivery, and what failed."""

    pool: Pool
    markers: list[Marker]
    new: dict[str, Assignment] = field(default_factory=dict[str, Assignment])
    known: dict[str, Run] = field(default_factory=dict[str, Run])
    specs: dict[str, Spec] = field(default_factory=dict[str, Spec])
    errors: dict[str, Exception] = field(default_factory=dict[str, Exception])

    def fail(self, drafts: Iterable[Draft], error: Exception) -> None:
        """These are not known to be written: their messages must come again."""
        self.errors |= {draft.run.id: error for draft in drafts}

    def run(self, run_id: str) -> Run | None:
        """The run as it stands, if it was written or found."""
        new = self.new.get(run_id)
        return new.run if new else self.known.get(run_id)

    def unfinished(self, ports: Ports, run_id: str, error: Exception) -> None:
        """The run is written, but not all was done for it.

        Its message comes again, unless that would not help; its due look then does what is left. It is never refused:
        a refused request has no run.
        """
        if isinstance(error, Refused | NotFound):
            ports.log("submission_unfinished", {"run": run_id, "note": str(error)[:200]})
        else:
            self.errors[run_id] = error


def _submit_to(ports: Ports, pools: Pools, pool: Pool, drafts: list[Draft], until: datetime) -> list[Submitted]:
    unique: dict[str, Draft] = {}
    for draft in drafts:
        unique.setdefault(draft.run.id, draft)
    progress = Progress(pool=pool, markers=[])
    try:
        progress.markers = shuffled(ports.store.idle(pool.id, IDLE_PAGE), ports.random(32))
        for batch in pages(list(unique.values()), MAX_CLAIMS):
            _write(ports, progress, list(batch))
    except Exception as error:  # the other pools of the batch go on
        progress.fail([draft for run_id, draft in unique.items() if not progress.run(run_id)], error)
    _announce(ports, progress, until)
    _match(ports, pools, progress, until)
    return [_outcome(progress, draft) for draft in drafts]


def _outcome(progress: Progress, draft: Draft) -> Submitted:
    """Each by itself: of two messages with one id, one may ask for what the run is, the other for something else."""
    run_id = draft.run.id
    run, new = progress.run(run_id), progress.new.get(run_id)
    spec = new.spec if new else progress.specs.get(run_id)
    if run and spec:
        try:
            same_again((run, spec), draft)
        except Conflict as error:
            return Submitted(submission=draft.submission, error=error)
    return Submitted(submission=draft.submission, run=run, error=progress.errors.get(run_id))


def _announce(ports: Ports, progress: Progress, until: datetime) -> None:
    for run_id, new in progress.new.items():
        try:
            if new.run.state is RunState.PREPARING:
                in_time(ports, until)
                announce(ports, progress.pool, new)
        except Exception as error:  # the other runs' workers are told
            progress.unfinished(ports, run_id, error)
    for run_id, run in progress.known.items():
        try:
            if run.state is RunState.PREPARING:
                in_time(ports, until)
                repeat(ports, progress.pool, run)
        except Exception as error:  # the other runs' workers are told
            progress.unfinished(ports, run_id, error)


def _match(ports: Ports, pools: Pools, progress: Progress, until: datetime) -> None:
    """The tickets are written, or were by an earlier delivery: now the idle workers are read once more."""
    waiting = [run_id for run_id in (*progress.new, *progress.known) if _is_ready(progress.run(run_id))]
    if not waiting:
        return
    try:
        in_time(ports, until)
        match(ports, pools, progress.pool.id)
    except Exception as error:  # each of these runs is written: what is left is told one by one
        for run_id in waiting:
            progress.unfinished(ports, run_id, error)


def _is_ready(run: Run | None) -> bool:
    return run is not None and run.state is RunState.READY


def _write(ports: Ports, progress: Progress, batch: list[Draft]) -> None:
    """Write a batch in one transaction; whatever lost is taken out of it, and the rest is tried again."""
    while batch:
        # A run that is bound is for no worker that is there.
        offered = (draft.run.id for draft in batch if not draft.run.bound)
        offers: dict[str, Marker] = dict(zip(offered, progress.markers, strict=False))
        new, writes = _plan(progress.pool, batch, offers)
        try:
            ports.store.commit(*writes)
        except Lost as lost:
            batch = _without_lost(ports, progress, batch, lost)
        except Unavailable:
            raise
        except Exception as error:  # Busy, or one that cannot be written: found by halving, fails alone
            if len(batch) == 1:
                progress.fail(batch, error)
                return
            half = len(batch) // 2
            _write(ports, progress, batch[:half])
            batch = batch[half:]
        else:
            progress.new |= new
            del progress.markers[: len(offers)]
            return


def _without_lost(ports: Ports, progress: Progress, batch: list[Draft], lost: Lost) -> list[Draft]:
    """What is left of a batch without those that came before; workers that were taken meanwhile are dropped too."""
    keys = lost.keys
    markers = [marker for marker in progress.markers if not {marker.key, marker.worker.key} & keys]
    known = [draft for draft in batch if {draft.run.key, draft.spec.key} & keys]
    if not known and len(markers) == len(progress.markers):
        raise Busy(f"a batch of pool {progress.pool.id} lost to {lost}")
    progress.markers = markers
    for draft in known:
        _find_duplicate(ports, progress, draft)
    return [draft for draft in batch if draft not in known]


def _find_duplicate(ports: Ports, progress: Progress, draft: Draft) -> None:
    """An id that came before: what its first delivery left undone is done, whoever asks for it now."""
    found = ports.store.run_and_spec(draft.run.id)
    if not found:
        progress.fail([draft], Busy(f"run {draft.run.id} is being written"))
        return
    run, progress.specs[draft.run.id] = found
    progress.known[run.id] = run
    ports.log("request_repeated", {"run": run.id, "state": run.state})


def _plan(pool: Pool, batch: list[Draft], offers: dict[str, Marker]) -> tuple[dict[str, Assignment], list[Write]]:
    new: dict[str, Assignment] = {}
    writes: list[Write] = []
    for draft in batch:
        run = draft.run
        if marker := offers.get(run.id):
            timeouts = deadlines.effective(draft.spec, pool.settings, marker.worker)
            due_at = deadlines.first_look(timeouts, pool.settings, run.accepted_at)
            idle, at = marker.worker, run.accepted_at
            run = claimed(run, idle.id, idle.session, at, timeouts, due_at, leg=draft.spec.leg(run), spot=idle.spot)
            worker = occupied(idle, run.id, run.attempt, at)
            writes += [Delete(marker), Replace(worker)]
        else:
            writes.append(Create(ticket_for(run)))
        writes += [Create(run), Create(draft.spec)]
        new[run.id] = Assignment(run=run, spec=draft.spec)
    return new, writes
