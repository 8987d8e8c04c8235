"""Pools: create, list and show them, and have their starts tried again."""

import base64
import json
from dataclasses import dataclass, replace
from datetime import timedelta

from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.dispatcher.users.pool_settings import read_pool_settings
from quaymaster.domain import ids
from quaymaster.domain.api import CreatePool
from quaymaster.domain.fargate_sizes import check_size
from quaymaster.domain.ids import ULID
from quaymaster.domain.messages import Endpoint, Executor, PoolToken
from quaymaster.domain.pool import Counters, Pool, PoolEntry, PoolKind, PoolName, Starts, followed
from quaymaster.domain.wakes import Wake
from quaymaster.errors import Busy, Lost, NotFound, QuaymasterError, Refused
from quaymaster.ports import Create, Ports, Replace, Store, TaskSettings, Write
from quaymaster.telling import describe

TASK_FIELDS = ("image", "cpu", "memory", "architecture", "task_role")
TRIES = 5
RETRIED_AT_ONCE = 50
"""So many images and launches go into one transaction: more that fail at once are not foreseen."""


class NameTaken(QuaymasterError):
    """A pool of that name (or of the id that the client chose) exists already."""

    def __init__(self, name: str, pool_id: str) -> None:
        super().__init__(f"a pool named {name!r} exists already: {pool_id}")
        self.name = name
        self.pool_id = pool_id


@dataclass(frozen=True, kw_only=True)
class Created:
    """A new pool and the token that makes workers of it, which is kept nowhere."""

    pool: Pool
    token: str


def create_pool(ports: Ports, deployment: Deployment, request: CreatePool) -> Created:
    """Certify the CSR, define the pool's task where it has one, and write the pool.

    Raises Refused for settings, a CSR or task sizes that are no good, NameTaken for a name that exists.
    """
    settings = read_pool_settings(request.settings)
    check_task(request, deployment)
    if known := ports.store.pool_named(request.name):
        raise NameTaken(request.name, known)
    now = ports.clock()
    pool_id = request.id or ids.ulid(now, ports.random(10))
    if ports.store.pool(pool_id):
        raise Refused("id", pool_id, "an id that no pool has yet")
    if request.kind is PoolKind.FARGATE:
        ports.tasks.check(request.image)
    # Before anything is made: a pool whose token cannot be given would be a name that is taken for nothing.
    brokers, ca = ports.certificates.endpoints()
    certificate = ports.certificates.issue(pool_id, request.csr)
    pool = Pool(
        id=pool_id,
        name=request.name,
        kind_of=request.kind,
        executor=request.executor,
        image=request.image,
        settings=settings,
        certificate_id=certificate.id,
        certificate_arn=certificate.arn,
        certificate_expires_at=certificate.expires_at,
        created_at=now,
        updated_at=now,
    )
    if request.kind is PoolKind.FARGATE:
        definition = define_task(ports, deployment, pool_id, request)
        made = {field: getattr(request, field) for field in TASK_FIELDS}
        pool = replace(pool, task_definition=definition, **made)
    _write(ports.store, pool)
    ports.log("pool_created", {"pool": pool.id, "name": pool.name, "kind": pool.kind_of})
    token = PoolToken(
        namespace=deployment.namespace,
        pool_id=pool.id,
        mqtt=[Endpoint(host=host, port=port) for host, port in brokers],
        certificate=certificate.pem,
        ca=ca,
        executor=pool.executor,
        store=ports.blobs.url,
    )
    return Created(pool=pool, token=base64.b64encode(json.dumps(token.dump()).encode()).decode())


def check_task(wanted: CreatePool | Pool, deployment: Deployment) -> None:
    """Raises Refused for what a pool of this kind has not, or that does not go together.

    What is not said is as the deployment has it. Only roles that are named for it may be passed on: IAM would refuse
    any other, less clearly.
    """
    kind = wanted.kind_of if isinstance(wanted, Pool) else wanted.kind
    if kind is not PoolKind.FARGATE:
        _check_private(wanted)
        return
    if wanted.executor is not Executor.PROCESS:
        raise Refused("executor", wanted.executor, "process: nothing in a Fargate task can run containers")
    role = (wanted.task_role or "").partition(":role/")[2]
    if wanted.task_role and not role.startswith(deployment.run_role_prefix):
        raise Refused("task_role", wanted.task_role, f"a role whose name begins with {deployment.run_role_prefix}")
    if wanted.cpu or wanted.memory:
        usual = deployment.task_size
        check_size(wanted.cpu or usual.cpu, wanted.memory or usual.memory)


def _check_private(wanted: CreatePool | Pool) -> None:
    in_containers = wanted.executor is Executor.DOCKER
    for field in TASK_FIELDS:
        if (found := getattr(wanted, field)) is not None and not (in_containers and field == "image"):
            allowed = "only a Fargate pool has CPU, memory, an architecture, a task role, and an image"
            raise Refused(field, found, f"{allowed}; an image has also a pool with the executor docker")
    images = wanted.settings.images if isinstance(wanted, Pool) else wanted.settings.get("images")
    if images and not in_containers:
        raise Refused("settings.images", describe(str(images)), "nothing: workers of this pool run no images")


def define_task(ports: Ports, deployment: Deployment, pool_id: str, wanted: CreatePool | Pool) -> str:
    """Register the definition of the pool's own tasks, as it is wanted; its ARN. Raises Refused, Unavailable."""
    settings = TaskSettings(
        token_parameter=deployment.token_parameter(pool_id),
        key_parameter=deployment.key_parameter(pool_id),
        **{field: getattr(wanted, field) for field in TASK_FIELDS},
    )
    return ports.tasks.define(pool_id, settings)


def _write(store: Store, pool: Pool) -> None:
    try:
        store.commit(
            Create(pool),
            Create(PoolEntry(pool_id=pool.id, name=pool.name)),
            Create(PoolName(name=pool.name, pool_id=pool.id)),
            Create(Counters(pool_id=pool.id)),
            Create(Starts(pool_id=pool.id)),
        )
    except Lost:
        # Someone created a pool of that name since it was looked for.
        raise NameTaken(pool.name, store.pool_named(pool.name) or pool.id) from None


def retry_starts(ports: Ports, pool: Pool) -> None:
    """Forget what stands against starting the pool's tasks, and have it looked at; saying it twice changes nothing.

    Calls that are put off, because nobody knows what became of them, are due at once as well.

    Raises Refused for a pool that starts none, Busy when others kept writing.
    """
    if pool.kind_of is not PoolKind.FARGATE:
        raise Refused("pool", pool.name, "a Fargate pool: workers of a private pool start by themselves")
    for _ in range(TRIES):
        starts = ports.store.starts(pool.id)
        now = ports.clock()
        images = [one for one in ports.store.image_definitions(pool.id) if one.trouble][:RETRIED_AT_ONCE]
        put_off = [one for one in ports.store.launches(pool.id) if not one.answered and one.due_at and one.due_at > now]
        writes: list[Write] = [Replace(one.untroubled()) for one in images]
        writes += [Replace(followed(one, now)) for one in put_off[: RETRIED_AT_ONCE - len(writes)]]
        if starts and (starts.trouble or starts.drought):
            writes.append(Replace(starts.retried()))
        if not writes:
            break
        try:
            ports.store.commit(*writes)
        except Lost:
            continue
        was = starts.trouble.note[:120] if starts and starts.trouble else None
        ports.log("starts_retried", {"pool": pool.id, "was": was, "images": len(images)})
        break
    else:
        raise Busy(f"pool {pool.id}: others kept writing")
    ports.queue.wake(Wake(pool.id), timedelta(0))


def find_pool(store: Store, name_or_id: str) -> Pool:
    """The pool of this name or id, as it is now. Raises NotFound."""
    if ULID.fullmatch(name_or_id) and (pool := store.pool(name_or_id)):
        return pool
    pool_id = store.pool_named(name_or_id)
    pool = store.pool(pool_id) if pool_id else None
    if not pool:
        raise NotFound("pool", name_or_id)
    return pool


def all_pools(store: Store) -> list[Pool]:
    """Every pool, by name."""
    found = (store.pool(entry.pool_id) for entry in store.pools())
    return sorted((pool for pool in found if pool), key=lambda pool: pool.name)
