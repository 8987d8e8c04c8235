"""Runs as users ask for them: request one, find one, list a pool's."""

from dataclasses import replace

from quaymaster.dispatcher.requests.drafts import Submission, draft_of, same_again
from quaymaster.dispatcher.requests.queue_records import wrap
from quaymaster.dispatcher.users.pools import find_pool
from quaymaster.dispatcher.users.views import summarize_run
from quaymaster.domain import ids
from quaymaster.domain.api import AcceptedRun, RunList
from quaymaster.domain.pool import Pool
from quaymaster.domain.requests import MAX_REQUEST_BYTES, RunRequest
from quaymaster.domain.run import Run, Spec
from quaymaster.domain.states import RunState
from quaymaster.errors import NotFound, Refused
from quaymaster.ports import Ports, Store

PAGES_READ = 20
"""Pages read for one answer: a filter that few runs pass ends in a short page with a cursor, not in a long wait."""


def request_run(ports: Ports, request: RunRequest, requester: str, note: str = "") -> AcceptedRun:
    """Check a request as far as it can be, and queue it on the way that every request takes.

    The run may not be in the table yet when this returns. Raises NotFound for an unknown pool, Refused for what the
    pool does not allow or a request that is too large, Conflict for an id that has led to another run already.
    """
    pool = find_pool(ports.store, request.pool)
    now = ports.clock()
    request_id = request.id or ids.ulid(now, ports.random(10))
    submission = Submission(request=request, delivery=request_id, by="api", requester=requester, note=note)
    draft = draft_of(pool, submission, now)
    found = ports.store.run_and_spec(draft.run.id) if request.id else None
    if found:
        same_again(found, draft)
    queued = request.model_copy(update={"id": request_id, "pool": pool.id})
    if (size := len(queued.encode())) > MAX_REQUEST_BYTES:
        raise Refused("request", f"{size} bytes", f"at most {MAX_REQUEST_BYTES} bytes; send files by --dir")
    ports.queue.send(wrap(replace(submission, request=queued), request_id))
    return AcceptedRun(run=ids.run_id(pool.id, request_id), request_id=request_id, pool=pool.id)


def find_run(store: Store, name: str, pool: str | None = None) -> tuple[Run, Spec]:
    """A run by its id, or by its request's id in a pool (the pool's name or id). Raises NotFound."""
    if pool:
        found = store.run_and_spec(ids.run_id(find_pool(store, pool).id, name))
        if found:
            return found
    found = store.run_and_spec(name)
    if not found:
        raise NotFound("run", name)
    return found


def list_runs(
    store: Store, pool: Pool, limit: int, cursor: str | None, *, state: RunState | None = None, stack: str | None = None
) -> RunList:
    """Runs of a pool, newest first, up to `limit`; a page may be shorter although more follow."""
    runs: list[Run] = []
    for _ in range(PAGES_READ):
        page = store.runs_of(pool.id, limit - len(runs), cursor)
        runs += [run for run in page.runs if state in (None, run.state) and stack in (None, run.stack)]
        cursor = page.cursor
        if not cursor or len(runs) >= limit:
            break
    specs = store.specs(run.id for run in runs)
    return RunList(runs=[summarize_run(run, specs.get(run.id), pool) for run in runs], cursor=cursor)
