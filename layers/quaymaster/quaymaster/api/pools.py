"""Routes about pools and their workers."""

from http import HTTPStatus
from typing import Annotated

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Path, Query

from quaymaster.dispatcher.users import pools, views
from quaymaster.dispatcher.users.changing import change_pool
from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.dispatcher.users.pools import create_pool, find_pool
from quaymaster.dispatcher.users.runs import list_runs
from quaymaster.domain.api import ChangePool, CreatedPool, CreatePool, PoolList, PoolView, RunList, WorkerList
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.states import RunState
from quaymaster.ports import Ports

PoolRef = Annotated[str, Path(description="A pool's name or id")]
MOST_RUNS = 200
MOST_WORKERS = 200


def add_pool_routes(app: LambdaFunctionUrlResolver, ports: Ports, deployment: Deployment) -> None:
    """Everything below `/pools`."""

    @app.get("/pools", summary="All pools")
    def list_pools() -> PoolList:  # pyright: ignore[reportUnusedFunction]
        found = pools.all_pools(ports.store)
        return PoolList(pools=[views.summarize_pool(ports.store, pool) for pool in found])

    @app.post("/pools", summary="Create a pool; its token is shown this once")
    def create(request: CreatePool) -> Response[CreatedPool]:  # pyright: ignore[reportUnusedFunction]
        created = create_pool(ports, deployment, request)
        fargate = created.pool.kind_of is PoolKind.FARGATE
        answer = CreatedPool(
            pool=views.show_pool(ports.store, created.pool, deployment, ports.clock()),
            token=created.token,
            token_parameter=deployment.token_parameter(created.pool.id) if fargate else None,
            key_parameter=deployment.key_parameter(created.pool.id) if fargate else None,
        )
        return Response(status_code=HTTPStatus.CREATED.value, content_type="application/json", body=answer)

    @app.get("/pools/<pool>", summary="A pool")
    def show(pool: PoolRef) -> PoolView:  # pyright: ignore[reportUnusedFunction]
        return views.show_pool(ports.store, find_pool(ports.store, pool), deployment, ports.clock())

    # Its stub leaves the middlewares' type open.
    @app.patch("/pools/<pool>", summary="Change a pool's settings or tasks")  # pyright: ignore[reportUnknownMemberType]
    def change(pool: PoolRef, request: ChangePool) -> PoolView:  # pyright: ignore[reportUnusedFunction]
        return views.show_pool(ports.store, change_pool(ports, deployment, pool, request), deployment, ports.clock())

    @app.post("/pools/<pool>/retry", summary="Start a pool's tasks again now, whatever failed before")
    def retry(pool: PoolRef) -> PoolView:  # pyright: ignore[reportUnusedFunction]
        pools.retry_starts(ports, find_pool(ports.store, pool))
        return views.show_pool(ports.store, find_pool(ports.store, pool), deployment, ports.clock())

    @app.get("/pools/<pool>/workers", summary="A pool's workers: those that are there, or those that are gone")
    def workers(  # pyright: ignore[reportUnusedFunction]
        pool: PoolRef,
        gone: Annotated[bool, Query()] = False,
        limit: Annotated[int, Query(ge=1, le=MOST_WORKERS)] = 100,
        cursor: Annotated[str | None, Query(max_length=512)] = None,
    ) -> WorkerList:
        return views.show_workers(ports.store, find_pool(ports.store, pool), limit, cursor, gone=gone)

    @app.get("/pools/<pool>/runs", summary="A pool's runs, newest first")
    def runs(  # pyright: ignore[reportUnusedFunction]
        pool: PoolRef,
        state: Annotated[RunState | None, Query()] = None,
        stack: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_RUNS)] = 50,
        cursor: Annotated[str | None, Query(max_length=512)] = None,
    ) -> RunList:
        return list_runs(ports.store, find_pool(ports.store, pool), limit, cursor, state=state, stack=stack)
