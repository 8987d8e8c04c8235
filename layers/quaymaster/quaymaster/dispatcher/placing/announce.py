"""Telling a worker of its attempt: always after the write, and safe to repeat, because the agent knows what it has."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from quaymaster.dispatcher.placing import spec_object
from quaymaster.domain import deadlines, objects
from quaymaster.domain.messages import (
    Assign,
    Executor,
    Go,
    ImageRule,
    ImageUsed,
    Kill,
    PhaseOrder,
    Refused,
    Stop,
    WorkspaceGrant,
)
from quaymaster.domain.phases import PERFORM
from quaymaster.domain.pool import Pool
from quaymaster.domain.run import Ending, Run, Spec
from quaymaster.domain.states import Reason, RunState
from quaymaster.errors import QuaymasterError
from quaymaster.ports import Ports


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A claimed run with what its worker must know."""

    run: Run
    spec: Spec


def announce(ports: Ports, pool: Pool, assignment: Assignment) -> None:
    """Send `assign`; it expires with the accept timeout, when the sweep sends it again or offers it elsewhere."""
    run, spec, settings = assignment.run, assignment.spec, pool.settings
    if not run.worker or not run.log_timeout or not run.run_timeout:
        raise ValueError(f"run {run.id} is not assigned")
    large = spec_object.grant_for(ports, run, spec, settings.grant_life)
    message = Assign(
        session=run.session,
        run=run.id,
        attempt=run.attempt,
        type=run.type,
        phase=spec.phases[run.leg].name if spec.phases else PERFORM,
        stack=run.stack,
        command=[] if large else list(spec.command),
        environment={} if large else spec.environment,
        first=run.leg,
        phases=_orders(pool, assignment, bare=large is not None),
        on_end=[] if large else [list(command) for command in spec.on_end],
        pack=run.needs_confirmation,
        metadata=spec.metadata,
        spec=large,
        image=spec.image,
        tool=spec.tool,
        default_image=_default_image(ports, pool),
        workspace=_workspace(ports, pool, run, spec),
        log_timeout_seconds=run.log_timeout.total_seconds(),
        run_timeout_seconds=run.run_timeout.total_seconds(),
        prepare_timeout_seconds=settings.prepare_timeout.total_seconds(),
        warning_seconds=settings.warning.total_seconds(),
        grants=ports.blobs.grants(run.pool_id, run.id, run.attempt, settings, pack=run.needs_confirmation),
    )
    ports.messenger.send(run.pool_id, run.worker, message, expires=settings.accept_timeout)
    ports.log("assigned", {"run": run.id, "attempt": run.attempt, "worker": run.worker, "wait_ms": _waited_ms(run)})


def _default_image(ports: Ports, pool: Pool) -> ImageUsed | None:
    """For workers that run containers: the pool's image, else the deployment's."""
    if pool.executor is not Executor.DOCKER:
        return None
    if pool.image:
        return ImageUsed(name=pool.image, rule=ImageRule.POOL)
    return ImageUsed(name=ports.runner_image, rule=ImageRule.TEMPLATE) if ports.runner_image else None


def _workspace(ports: Ports, pool: Pool, run: Run, spec: Spec) -> WorkspaceGrant | None:
    """What the attempt begins with: what an earlier leg has left, or what the request brought along."""
    life = pool.settings.grant_life
    if run.left:
        key = objects.left_workspace_key(run.pool_id, run.id, run.left.attempt)
        return ports.blobs.workspace(key, run.left.sha256, life)
    if spec.workspace:
        return ports.blobs.workspace(spec.workspace.key, spec.workspace.sha256, life)
    return None


def _orders(pool: Pool, assignment: Assignment, *, bare: bool) -> list[PhaseOrder]:
    """The phases of the leg at hand; `bare` without what lies in the bucket."""
    run, spec = assignment.run, assignment.spec
    orders: list[PhaseOrder] = []
    for number in range(run.leg, run.leg_end) if spec.phases else ():
        phase = spec.phases[number]
        wanted = deadlines.wanted(spec, pool.settings, number)
        order = PhaseOrder(
            name=phase.name,
            read_only=phase.read_only,
            log_timeout_seconds=wanted.log.total_seconds(),
            run_timeout_seconds=wanted.run.total_seconds(),
        )
        orders.append(order if bare else order.model_copy(update=spec_object.contents(phase)))
    return orders


def announce_all(ports: Ports, pool: Pool, assignments: Sequence[Assignment]) -> None:
    """Announce each, even if one fails. Raises Unavailable then, at the end: the sweep repeats what was not sent."""
    failed: QuaymasterError | None = None
    for assignment in assignments:
        try:
            announce(ports, pool, assignment)
        except QuaymasterError as error:
            ports.log("not_announced", {"run": assignment.run.id, "note": str(error)[:120]})
            failed = error
    if failed:
        raise failed


def _waited_ms(run: Run) -> int:
    claimed_at: datetime = run.claimed_at or run.accepted_at
    return round((claimed_at - run.accepted_at).total_seconds() * 1000)


def repeat(ports: Ports, pool: Pool, run: Run) -> None:
    """Say again where a held run stands: the assignment while it prepares, `go` or its kill once it has begun."""
    if run.state is RunState.PREPARING:
        found = ports.store.run_and_spec(run.id)
        if found and found[0].attempt == run.attempt and found[0].state is RunState.PREPARING:
            announce(ports, pool, Assignment(run=found[0], spec=found[1]))
    elif run.ending:
        send_end(ports, run, run.ending)
    elif run.state is RunState.RUNNING:
        send_go(ports, pool, run)


def send_go(ports: Ports, pool: Pool, run: Run) -> None:
    """Send `go` to the worker that holds the run, with its timeouts as they are now."""
    if run.worker:
        message = Go(
            session=run.session,
            run=run.id,
            attempt=run.attempt,
            phase=run.phase,
            log_timeout_seconds=run.log_timeout.total_seconds() if run.log_timeout else None,
            run_timeout_seconds=run.run_timeout.total_seconds() if run.run_timeout else None,
        )
        ports.messenger.send(run.pool_id, run.worker, message, expires=pool.settings.accept_timeout)


def send_end(ports: Ports, run: Run, ending: Ending) -> None:
    """Tell the worker that holds the run to end it: at once, or by asking its command first while there is time."""
    if not run.worker:
        return
    kind = Stop if ending.still_asks(ports.clock()) else Kill
    note = None
    if ending.reason is Reason.BY_USER:
        note = f"{'stopped' if ending.kill_at else 'killed'} by {ending.by}" + (f": {ending.note}" * bool(ending.note))
    message = kind(session=run.session, run=run.id, attempt=run.attempt, reason=ending.reason, note=note)
    ports.messenger.send(run.pool_id, run.worker, message)


def send_refused(ports: Ports, pool_id: str, worker: str, session: str, run_id: str, attempt: int) -> None:
    """Tell a worker that an attempt is not its own (any more)."""
    ports.messenger.send(pool_id, worker, Refused(session=session, run=run_id, attempt=attempt))
