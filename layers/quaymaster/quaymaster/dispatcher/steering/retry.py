"""Retry: what an ended run was asked for, asked for once more. The id of the new request says of which run it is."""

from quaymaster.dispatcher.steering.found import conflict
from quaymaster.dispatcher.users.runs import find_run, request_run
from quaymaster.domain.api import AcceptedRun
from quaymaster.domain.requests import RunRequest
from quaymaster.domain.run import Run, Spec
from quaymaster.domain.steering import RETRY_OF, person
from quaymaster.errors import Refused
from quaymaster.ports import Ports
from quaymaster.telling import describe


def retry_run(ports: Ports, run_id: str, requester: str, note: str = "") -> AcceptedRun:
    """Queue a new run of the same request; asked for twice, it is the same one.

    Raises NotFound, Conflict for a run that has not ended, Refused if something that it needs is no more.
    """
    run, spec = find_run(ports.store, run_id)
    if not run.is_final:
        raise conflict(run, "a run that has ended")
    if spec.workspace and not ports.blobs.is_there(spec.workspace.key):
        found = f"{describe(spec.workspace.key)}, which has expired"
        raise Refused("workspace", found, "one that is there: start the run anew, with its folder")
    said = f"retried by {person(requester)}" + (f": {note}" if note else "")
    return request_run(ports, _again(run, spec), requester, said)


def _again(run: Run, spec: Spec) -> RunRequest:
    return RunRequest(
        id=RETRY_OF + run.id,
        pool=run.pool_id,
        type=run.type,
        stack=run.stack,
        command=spec.command,
        environment=spec.environment,
        phases=spec.phases,
        on_end=spec.on_end,
        auto_confirm=spec.auto_confirm,
        image=spec.image,
        tool=spec.tool,
        workspace=spec.workspace,
        log_timeout=spec.log_timeout,
        run_timeout=spec.run_timeout,
        retryable=run.retryable and not spec.phases,
    )
