"""From the records of the table to what users see."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.dispatcher.users.phases import began_at, first_command, show_phases
from quaymaster.dispatcher.users.pool_settings import write_pool_settings
from quaymaster.domain import ids, objects
from quaymaster.domain.api import (
    ChangeView,
    EndingView,
    ImageView,
    LeftWorkspaceView,
    LogPlace,
    MonthView,
    PoolCounts,
    PoolSummary,
    PoolView,
    RunSummary,
    RunView,
    SpotView,
    TroubleView,
    WorkerList,
    WorkerView,
)
from quaymaster.domain.cost import CALLS_OF_A_RUN, Month, Spent, cost_of, month_of
from quaymaster.domain.pool import Counters, Launch, Pool, PoolKind, Starts
from quaymaster.domain.run import Run, Spec, held_seconds, read_history, spot_seconds
from quaymaster.domain.steering import RETRY_OF, retried_from
from quaymaster.domain.trouble import Trouble
from quaymaster.domain.worker import Agent, Worker, WorkerState
from quaymaster.ports import Ports, Store

LINE = 100
TICKETS_COUNTED = 1000
"""A longer queue is shown as one of this length: counting it would cost more than the figure is worth."""


def count_pool(store: Store, pool_id: str) -> PoolCounts:
    """What a pool is doing at this moment."""
    states = Counter(worker.state for worker in store.workers(pool_id))
    return PoolCounts(
        idle=states[WorkerState.IDLE],
        busy=states[WorkerState.BUSY],
        absent=states[WorkerState.ASKED],
        starting=sum(launch.starting for launch in store.launches(pool_id)),
        queued=len(store.tickets(pool_id, TICKETS_COUNTED)) + len(store.bound(pool_id, TICKETS_COUNTED)),
    )


def summarize_pool(store: Store, pool: Pool) -> PoolSummary:
    """A pool in a list."""
    return PoolSummary(
        id=pool.id,
        name=pool.name,
        kind=pool.kind_of,
        created_at=pool.created_at,
        counts=count_pool(store, pool.id),
    )


def show_pool(store: Store, pool: Pool, deployment: Deployment, now: datetime) -> PoolView:
    """A pool in full."""
    counters, starts = store.counters(pool.id), store.starts(pool.id)
    launches = store.launches(pool.id)
    return PoolView(
        **dict(summarize_pool(store, pool)),
        generation=pool.generation,
        settings=write_pool_settings(pool.settings),
        certificate_id=pool.certificate_id,
        certificate_expires_at=pool.certificate_expires_at,
        task_definition=pool.task_definition,
        image=pool.image,
        cpu=pool.cpu,
        memory=pool.memory,
        architecture=pool.architecture,
        task_role=pool.task_role,
        executor=pool.executor,
        workers_reserved=counters.workers_reserved if counters else 0,
        month=_show_month(pool, counters, launches, deployment, now),
        launch_note=launch_note(launches, starts),
        trouble=show_trouble(pool, starts.trouble if starts else None),
        images=show_images(store, pool),
        spot=show_drought(starts),
    )


def _show_month(
    pool: Pool, counters: Counters | None, launches: Sequence[Launch], deployment: Deployment, now: datetime
) -> MonthView | None:
    if pool.kind_of is not PoolKind.FARGATE or not counters:
        return None
    month = month_of(now)
    taken = counters.months.get(month, Month())
    for launch in launches:
        running = Spent(month=month, seconds=round((now - launch.called_at).total_seconds()), spot=launch.spot, runs=0)
        for _ in range(launch.places if launch.answered else 0):
            taken = taken.plus(running)
    prices = deployment.prices_of(pool)
    cost = cost_of(taken.seconds, taken.spot_seconds, deployment.size_of(pool), prices) if prices else None
    return MonthView(
        month=month,
        tasks=taken.tasks,
        runs=taken.runs,
        seconds=taken.seconds,
        spot_seconds=taken.spot_seconds,
        cost=None if cost is None else round(cost, 6),
        calls=taken.runs * CALLS_OF_A_RUN,
    )


def show_images(store: Store, pool: Pool) -> list[ImageView]:
    """The images for which tasks of a pool are started, or were not long ago, by name."""
    found = (one for one in store.image_definitions(pool.id) if one.made_from == pool.task_definition)
    return [
        ImageView(
            image=one.image,
            task_definition=one.task_definition,
            used_at=one.used_at,
            trouble=show_trouble(pool, one.trouble),
        )
        for one in sorted(found, key=lambda one: one.image)
    ]


def show_trouble(pool: Pool, found: Trouble | None) -> TroubleView | None:
    """What stands against starting tasks of a pool, or of an image, if anything does."""
    if not found:
        return None
    return TroubleView(
        kind=found.kind,
        reason=found.reason,
        note=found.note,
        times=found.times,
        since=found.since,
        last_at=found.last_at,
        retry_at=found.retry_at,
        runs_fail_at=found.ends_runs_from(found.since, pool.settings.start_failure_limit),
    )


def show_drought(starts: Starts | None) -> SpotView | None:
    """What Spot said last, while it has nothing to give."""
    found = starts.drought if starts else None
    if not found:
        return None
    return SpotView(
        note=found.note, times=found.times, since=found.since, last_at=found.last_at, retry_at=found.retry_at
    )


def launch_note(launches: Sequence[Launch], starts: Starts | None) -> str | None:
    """What ECS last said against starting a pool's tasks, if anything stands against it or the last start met it."""
    if starts and starts.trouble:
        return starts.trouble.note
    return launches[-1].note if launches else None


def show_workers(store: Store, pool: Pool, limit: int, cursor: str | None, *, gone: bool) -> WorkerList:
    """A page of a pool's workers, by id: those that are there or sought, or those that are gone for good."""
    page = store.workers_of(pool.id, limit, cursor, over=gone)
    agents = store.agents(pool.id, [worker.id for worker in page.workers])
    return WorkerList(
        workers=[show_worker(worker, agents.get(worker.id)) for worker in page.workers], cursor=page.cursor
    )


def show_worker(worker: Worker, agent: Agent | None) -> WorkerView:
    """A worker and what its agent said of itself."""
    return WorkerView(
        id=worker.id,
        state=worker.state,
        run=worker.run,
        attempt=worker.attempt,
        runs_done=worker.runs_done,
        created_at=worker.created_at,
        seen_at=worker.seen_at,
        idle_since=worker.idle_since,
        busy_since=worker.busy_since,
        disconnected_at=worker.disconnected_at,
        task_arn=worker.task_arn,
        agent_version=agent.agent_version if agent else "",
        metadata=agent.metadata if agent else {},
        note=worker.note,
    )


def summarize_run(run: Run, spec: Spec | None, pool: Pool | None) -> RunSummary:
    """A run in a list."""
    return RunSummary(
        run=run.id,
        pool=run.pool_id,
        pool_name=pool.name if pool else None,
        request_id=spec.request_id if spec else None,
        command=_in_short(first_command(spec)) if spec else [],
        type=run.type,
        stack=run.stack,
        state=run.state,
        reason=run.reason,
        exit_code=run.exit_code,
        attempt=run.attempt,
        worker=run.worker,
        accepted_at=run.accepted_at,
        begun_at=began_at(run),
        ended_at=run.ended_at,
    )


def view_run(ports: Ports, found: tuple[Run, Spec], deployment: Deployment) -> RunView:
    """A run in full, with what else the table knows about it: its pool, and the run that repeats it."""
    run, _ = found
    again = ports.store.run(ids.run_id(run.pool_id, RETRY_OF + run.id)) if run.is_final else None
    view = show_run(found, ports.store.pool(run.pool_id), deployment, ports.clock())
    return view.model_copy(update={"retried_as": again.id}) if again else view


def show_run(found: tuple[Run, Spec], pool: Pool | None, deployment: Deployment, now: datetime) -> RunView:
    """A run in full. The values of its environment stay in the table."""
    run, spec = found
    whole = summarize_run(run, spec, pool).model_copy(update={"command": list(first_command(spec))})
    return RunView(
        **dict(whole),
        version=run.version,
        note=run.note,
        retryable=run.retryable,
        requester=spec.requester,
        environment=sorted(spec.environment),
        image=run.image.name if run.image else spec.image,
        image_from=run.image.rule if run.image else None,
        tool=spec.tool,
        workspace=spec.workspace.key if spec.workspace else None,
        log_timeout=run.log_timeout or spec.log_timeout,
        run_timeout=run.run_timeout or spec.run_timeout,
        claimed_at=run.claimed_at,
        output_at=max((at for at in (run.output_at, run.chunk_at) if at), default=None),
        upload_failing=run.upload_failing,
        losses=run.losses,
        offers=run.offers,
        worker_seconds=held_seconds(run, now),
        start_seconds=run.start_seconds,
        spot_seconds=spot_seconds(run, now),
        cost=_cost(run, pool, deployment, now),
        phases=show_phases(run, spec),
        confirm_by=run.confirm_by,
        left=LeftWorkspaceView(sha256=run.left.sha256, bytes=run.left.bytes) if run.left else None,
        ending=_show_ending(run),
        digest=run.log,
        usage=run.usage,
        log=_log_place(run, deployment),
        retry_of=retried_from(spec.request_id),
        history=[
            ChangeView(state=change.state, version=change.version, at=change.at, by=change.by, note=change.note)
            for change in read_history(run)
        ],
    )


def _in_short(command: Sequence[str]) -> list[str]:
    """The first words of a command, LINE characters at most; what was cut off is an ellipsis."""
    shown: list[str] = []
    left = LINE
    for word in command:
        if len(word) > left:
            return [*shown, word[: max(left - 1, 0)] + "…"]
        shown.append(word)
        left -= len(word) + 1
    return shown


def _cost(run: Run, pool: Pool | None, deployment: Deployment, now: datetime) -> float | None:
    prices = deployment.prices_of(pool) if pool and pool.kind_of is PoolKind.FARGATE else None
    if not pool or not prices:
        return None
    on_spot = spot_seconds(run, now)
    on_demand = held_seconds(run, now) + run.start_seconds - on_spot
    return round(cost_of(on_demand, on_spot, deployment.size_of(pool), prices), 6)


def _show_ending(run: Run) -> EndingView | None:
    ending = run.ending
    if not ending:
        return None
    return EndingView(
        state=ending.state, reason=ending.reason, by=ending.by, deadline=ending.deadline, note=ending.note
    )


def _log_place(run: Run, deployment: Deployment) -> LogPlace | None:
    if not run.attempt:
        return None
    return LogPlace(
        bucket=deployment.bucket,
        key=objects.log_key(run.pool_id, run.id, run.attempt),
        chunks=objects.chunk_prefix(run.pool_id, run.id, run.attempt),
    )
