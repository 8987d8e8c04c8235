"""What a request asks for, as the records that it becomes; and whether its id stands for that already."""

from dataclasses import dataclass
from datetime import datetime

from quaymaster.domain import deadlines, ids
from quaymaster.domain.durations import format_duration
from quaymaster.domain.images import is_allowed
from quaymaster.domain.messages import Executor
from quaymaster.domain.phases import Phase, check_strings
from quaymaster.domain.pool import Pool, PoolKind
from quaymaster.domain.requests import ReplyOn, RunRequest, Workspace, check_work
from quaymaster.domain.run import Run, Spec, accepted
from quaymaster.domain.states import RunState
from quaymaster.errors import Conflict, Refused
from quaymaster.telling import describe

LONGEST_REQUESTER = 256


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A request as it came in. `delivery` identifies its message, for requests that bring no id of their own.

    `by` is the way it came (`sqs`, `mqtt`, `api`), `requester` who sent it, as that way says: neither is in the body.
    `note` is for the run's history; only a function may give one.
    """

    request: RunRequest
    delivery: str
    by: str
    requester: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A run that is not yet written."""

    submission: Submission
    run: Run
    spec: Spec


def draft_of(pool: Pool, submission: Submission, now: datetime) -> Draft:
    """The run that a submission asks for. Raises Refused for what the pool does not allow."""
    request = submission.request
    check_request(request, pool)
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
        owes_reply=request.reply_on is not ReplyOn.ACCEPTED,
        bound=_wants_its_own(request, pool),
    )
    spec = Spec(
        run_id=run_id,
        request_id=request_id,
        requester=submission.requester[:LONGEST_REQUESTER],
        command=request.command,
        environment=request.environment,
        phases=request.phases,
        on_end=request.on_end,
        auto_confirm=request.auto_confirm,
        image=request.image,
        tool=request.tool,
        workspace=request.workspace,
        log_timeout=request.log_timeout,
        run_timeout=request.run_timeout,
        reply_to=request.reply_to if request.reply_on is not ReplyOn.ACCEPTED else None,
        expires_at=now + deadlines.RETENTION * 2,
    )
    return Draft(submission=submission, run=accepted(run, now, submission.by, submission.note), spec=spec)


def check_request(request: RunRequest, pool: Pool) -> None:
    """Raises Refused for what no worker could run, what the pool does not allow, or is another pool's."""
    check_work(request)
    check_strings(request.command, request.environment)
    for number, command in enumerate(request.on_end):
        check_strings(command, {}, f"on_end.{number}.")
    check_timeouts(request, pool)
    for number, phase in enumerate(request.phases):
        check_timeouts(phase, pool, f"phases.{number}.")
    if request.reply_on is not ReplyOn.ACCEPTED and not request.reply_to:
        raise Refused("reply_on", request.reply_on, "a topic in reply_to, for somebody to hear it")
    if _wants_its_own(request, pool) and not _may_have_its_own(request, pool):
        raise Refused("image", describe(request.image), _images(pool))
    if pool.executor is Executor.DOCKER and request.image and not _suits(request.image, pool):
        raise Refused("image", describe(request.image), _images(pool))
    if request.workspace and request.workspace.key.split("/")[1] != pool.id:
        raise Refused("workspace.key", describe(request.workspace.key), f"a key below inputs/{pool.id}/")


def _wants_its_own(request: RunRequest, pool: Pool) -> bool:
    """Whether only a task that is started for it has the image that it names."""
    return pool.executor is Executor.PROCESS and request.image is not None and request.image != pool.image


def _may_have_its_own(request: RunRequest, pool: Pool) -> bool:
    return pool.kind_of is PoolKind.FARGATE and is_allowed(request.image or "", pool.settings.images)


def _suits(image: str, pool: Pool) -> bool:
    """Whether containers of the pool's workers may be of the image; all may, unless the pool says which."""
    return not pool.settings.images or image == pool.image or is_allowed(image, pool.settings.images)


def _images(pool: Pool) -> str:
    """Which images a run of this pool may ask for."""
    if pool.kind_of is PoolKind.PRIVATE and pool.executor is Executor.PROCESS:
        return f"none: workers of pool {pool.name} run commands as processes of their hosts"
    if pool.settings.images:
        return f"an image that pool {pool.name} allows: {', '.join(pool.settings.images)}"
    return f"none but the image of pool {pool.name}'s tasks: its setting images allows no other"


def check_timeouts(request: RunRequest | Phase, pool: Pool, where: str = "") -> None:
    """Raises Refused for a timeout above the pool's maximum."""
    settings = pool.settings
    for name, wanted, most in (
        ("log_timeout", request.log_timeout, settings.max_log_timeout),
        ("run_timeout", request.run_timeout, settings.max_run_timeout),
    ):
        if wanted and wanted > most:
            raise Refused(
                f"{where}{name}", format_duration(wanted), f"pool {pool.name} allows at most {format_duration(most)}"
            )


def same_again(found: tuple[Run, Spec], again: Draft) -> None:
    """Raises Conflict if the id of a request was used for something else: then neither run is the answer."""
    others = [name for name, (old, new) in _compared(found, (again.run, again.spec)).items() if old != new]
    if others:
        allowed = f"a new id: run {again.run.id} has this one, with other {', '.join(others)}"
        raise Conflict("id", describe(again.spec.request_id), allowed)


def _compared(found: tuple[Run, Spec], again: tuple[Run, Spec]) -> dict[str, tuple[object, object]]:
    (old_run, old), (new_run, new) = found, again
    # That of a run of several phases changes as it goes.
    names = ("type", "stack") if new.phases else ("type", "stack", "retryable")
    pairs: dict[str, tuple[object, object]] = {name: (getattr(old_run, name), getattr(new_run, name)) for name in names}
    for name in (
        "command", "environment", "phases", "on_end", "auto_confirm", "image", "tool", "log_timeout", "run_timeout",
    ):  # fmt: skip
        pairs[name] = (getattr(old, name), getattr(new, name))
    return pairs | {"workspace": (_content(old.workspace), _content(new.workspace))}


def _content(workspace: Workspace | None) -> str | None:
    """What tells one workspace from another: sent again it lies at another key."""
    return workspace and (workspace.sha256 or workspace.key)
