"""A pool changed: its settings, and what its tasks are made of."""

from dataclasses import replace
from datetime import timedelta

from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.dispatcher.users.pool_settings import read_pool_settings
from quaymaster.dispatcher.users.pools import TASK_FIELDS, check_task, define_task, find_pool
from quaymaster.domain.api import ChangePool
from quaymaster.domain.pool import Pool, PoolKind
from quaymaster.domain.wakes import Wake
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Ports, Replace, Write

TRIES = 5


def change_pool(ports: Ports, deployment: Deployment, name_or_id: str, change: ChangePool) -> Pool:
    """The pool as it then stands; what is not named stays. Saying it twice changes nothing more.

    Tasks that run go on as they are; with another task definition the next is started at once, whatever failed before.
    Raises NotFound, Refused for what makes no sense together, Busy when others kept writing.
    """
    for _ in range(TRIES):
        pool = find_pool(ports.store, name_or_id)
        changed = _changed(pool, change)
        if changed == pool:
            return pool
        check_task(changed, deployment)
        writes = _writes(ports, deployment, pool, changed)
        try:
            ports.store.commit(*writes)
        except Lost:
            continue
        ports.log("pool_changed", {"pool": pool.id, "name": pool.name})
        ports.queue.wake(Wake(pool.id), timedelta(0))
        return find_pool(ports.store, pool.id)
    raise Busy(f"pool {name_or_id}: others kept writing")


def _changed(pool: Pool, change: ChangePool) -> Pool:
    settings = read_pool_settings(change.settings, pool.settings)
    named = {field: getattr(change, field) for field in TASK_FIELDS if field in change.model_fields_set}
    return replace(pool, settings=settings, **named)


def _writes(ports: Ports, deployment: Deployment, pool: Pool, changed: Pool) -> list[Write]:
    changed = replace(changed, version=pool.version + 1, updated_at=ports.clock())
    same_tasks = all(getattr(pool, field) == getattr(changed, field) for field in TASK_FIELDS)
    if same_tasks or pool.kind_of is not PoolKind.FARGATE:
        return [Replace(changed)]
    ports.tasks.check(changed.image)
    definition = define_task(ports, deployment, pool.id, changed)
    writes: list[Write] = [Replace(replace(changed, task_definition=definition))]
    starts = ports.store.starts(pool.id)
    if starts and (starts.trouble or starts.drought):
        writes.append(Replace(starts.retried()))
    return writes
