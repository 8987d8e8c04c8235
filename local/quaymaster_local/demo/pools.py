"""The demo's two pools: one of agents started here, one whose workers Quaymaster starts as Fargate tasks."""

import asyncio
import base64
from dataclasses import dataclass
from typing import Any

from quaymaster.domain.api import CreatedPool, CreatePool
from quaymaster.domain.pool import PoolKind
from quaymaster_sealing.keys import make_csr

from quaymaster_local.agent import AgentProcess
from quaymaster_local.cloud import LocalCloud
from quaymaster_local.demo.api import DemoApi
from quaymaster_local.demo.board import HOST
from quaymaster_local.demo.scenes import SETTINGS

AGENTS = ("worker-1", "worker-2")
MOST_TASKS = 2


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Both pools, and the private one's agents by name."""

    ids: dict[PoolKind, str]
    agents: dict[str, AgentProcess]


async def make_pools(cloud: LocalCloud, api: DemoApi, keys: dict[PoolKind, bytes]) -> Pools:
    """Create both pools, put the Fargate pool's secrets in place, and start the agents of the private one."""
    private = await _create(api, PoolKind.PRIVATE, keys[PoolKind.PRIVATE])
    agents = {name: await asyncio.to_thread(_start, cloud, private, keys[PoolKind.PRIVATE], name) for name in AGENTS}
    fargate = await _create(api, PoolKind.FARGATE, keys[PoolKind.FARGATE], max_workers=MOST_TASKS)
    await asyncio.to_thread(_put_secrets, cloud.client("ssm"), fargate, keys[PoolKind.FARGATE])
    return Pools(ids={PoolKind.PRIVATE: private.pool.id, PoolKind.FARGATE: fargate.pool.id}, agents=agents)


async def _create(api: DemoApi, kind: PoolKind, key: bytes, **settings: int) -> CreatedPool:
    request = CreatePool(name=f"demo-{kind}", kind=kind, csr=make_csr(key), settings={**SETTINGS, **settings})
    return await api.create_pool(request)


def _start(cloud: LocalCloud, pool: CreatedPool, key: bytes, name: str) -> AgentProcess:
    return cloud.start_agent(pool.token, key.decode(), env={f"QUAYMASTER_METADATA_{HOST}": name})


def _put_secrets(ssm: Any, pool: CreatedPool, key: bytes) -> None:
    """As whoever creates the pool does, with credentials of their own."""
    token = base64.b64decode(pool.token).decode()
    for name, value in ((pool.token_parameter, token), (pool.key_parameter, key.decode())):
        ssm.put_parameter(Name=name, Value=value, Type="SecureString")
