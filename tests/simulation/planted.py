"""What a history may find in the table at its start: what an earlier time, or another version, has left."""

from dataclasses import replace
from datetime import timedelta

from quaymaster.adapters.memory.tasks import CLUSTER, MemoryTask
from quaymaster.domain import deadlines
from quaymaster.domain.ids import ulid
from quaymaster.domain.images import ImageDefinition
from quaymaster.domain.pool import Counters, PoolEntry, PoolKind, PoolSettings, Starts, ticket_for
from quaymaster.domain.run import Ending, Run, Timeouts, begun, claimed, failed
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import freed, occupied
from quaymaster.ports import Create, Write

from tests.shared.memory.records import NOW, OTHER_POOL, a_pool, a_run, a_spec, a_worker
from tests.shared.memory.world import NAMESPACE

TIMEOUTS = Timeouts(log=timedelta(minutes=4), run=timedelta(minutes=70))
THIRD_POOL = ulid(NOW, b"third-pool")
FAMILY = f"arn:aws:ecs:us-east-1:000000000000:task-definition/{NAMESPACE}-pool-{THIRD_POOL}"
REVISIONS = {f"{FAMILY}:2": "old", f"{FAMILY}:3": "nobody's"}
SOON = NOW + timedelta(seconds=30)


def orphan() -> list[Write]:
    """A due worker whose pool is no more: the reaper must get past it."""
    return [Create(a_worker("orphan", pool_id=OTHER_POOL, due_at=NOW))]


def miscounted() -> list[Write]:
    """Another pool, whose count of places is wrong, and which has definitions that nobody uses: the sweep mends it."""
    pool = a_pool(
        id=THIRD_POOL,
        name="third",
        kind_of=PoolKind.FARGATE,
        task_definition=f"{FAMILY}:1",
        settings=PoolSettings(images=("*",)),
        # Its definitions are looked at in the first minute of a history.
        created_at=NOW - timedelta(seconds=59),
    )
    unused = ImageDefinition(
        pool_id=pool.id,
        image="old",
        made_from=f"{FAMILY}:1",
        task_definition=f"{FAMILY}:2",
        used_at=NOW - timedelta(days=8),
    )
    return [
        Create(unused),
        Create(pool),
        Create(PoolEntry(pool_id=pool.id, name=pool.name)),
        Create(Counters(pool_id=pool.id, workers_reserved=2)),
        Create(Starts(pool_id=pool.id)),
    ]


def strays(definition: str) -> list[MemoryTask]:
    """Tasks that were started for a launch that nobody remembers."""
    forgotten = ulid(NOW - timedelta(hours=1), b"forgotten!")
    return [
        MemoryTask(arn=f"{CLUSTER}/{number:032x}", launch_id=forgotten, task_definition=definition)
        for number in (0xE000, 0xE001)
    ]


def waiting_with_a_deadline() -> tuple[Run, list[Write]]:
    """A run that waits for a worker, and has a deadline that it should not have."""
    run = replace(a_run("planted waiting"), due_at=NOW)
    return run, [Create(run), Create(a_spec(run)), Create(ticket_for(run))]


def waiting_for_too_long() -> tuple[Run, list[Write]]:
    """A run that has waited for a day and an hour."""
    run = a_run("planted old", accepted_at=NOW - timedelta(hours=25))
    return run, [Create(run), Create(a_spec(run)), Create(ticket_for(run))]


def overdue_ending() -> tuple[Run, list[Write]]:
    """A run whose worker does not answer its kill, shortly before it is given up."""
    ready, worker = a_run("planted ending"), a_worker("planted")
    run = begun(claimed(ready, worker.id, worker.session, NOW, TIMEOUTS, SOON), NOW)
    ending = Ending(state=RunState.FAILED, reason=Reason.LOG_TIMEOUT, by="reaper", deadline=SOON)
    run = replace(run, ending=ending, due_at=SOON)
    idle, _ = freed(worker, "none", NOW)
    return run, [Create(run), Create(a_spec(run)), Create(occupied(idle, run.id, run.attempt, NOW))]


def unassembled() -> tuple[Run, list[Write]]:
    """A run that was given up, and whose log nobody has put together yet."""
    ready, worker = a_run("planted final"), a_worker("planted")
    run = begun(claimed(ready, worker.id, worker.session, NOW, TIMEOUTS, SOON), NOW)
    run = failed(run, Reason.WORKER_LOST, NOW, "reaper")
    run = replace(run, due_at=SOON, expires_at=NOW + deadlines.RETENTION)
    return run, [Create(run), Create(a_spec(run))]
