"""What happens in the demo, in order. Every wait is bounded; what does not come raises DemoFailed."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from quaymaster.domain.api import WorkerView
from quaymaster.domain.ids import run_id
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.requests import Workspace
from quaymaster.domain.states import RunState
from quaymaster.domain.worker import WorkerState

from quaymaster_local.cloud import LocalCloud
from quaymaster_local.demo.api import DemoApi
from quaymaster_local.demo.board import Board, Row
from quaymaster_local.demo.errors import DemoFailed
from quaymaster_local.demo.pools import AGENTS, Pools, make_pools
from quaymaster_local.demo.requester import Requester, make_identity
from quaymaster_local.demo.scenes import BROKEN, ENDLESS, FARGATE, GREET, HELLO, ORPHAN, SILENT, Scene, terraform_scene
from quaymaster_local.demo.terraform import find_program, pack_workspace, state_environment
from quaymaster_local.demo.watching import follow_log

SWEEP_SECONDS = 3.0
WORKERS_SECONDS = 60.0
ORPHAN_SECONDS = 60.0
RUN_SECONDS = 120.0
LOOK_SECONDS = 0.2
LINES_BEFORE_KILL = 3

type Started = Callable[[Coroutine[Any, Any, None]], object]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What the story plays on. `start` lets something go on beside it."""

    cloud: LocalCloud
    api: DemoApi
    board: Board
    keys: dict[PoolKind, bytes]
    start: Started


async def play(stage: Stage) -> None:
    """Send the requests, let one worker die, and wait until every run has ended and its log is whole."""
    pools = await make_pools(stage.cloud, stage.api, stage.keys)
    stage.board.happened("pools created: one private with two agents, one of Fargate tasks")
    identity = await asyncio.to_thread(make_identity, stage.cloud)
    async with Requester(stage.cloud, identity) as requester:
        await _wait(lambda: len(_idle(stage.board)) == len(AGENTS), WORKERS_SECONDS, "two agents are not idle")
        await _send(stage, pools, [ORPHAN, FARGATE])
        orphan = stage.board.rows[0]
        await _wait(lambda: orphan.seen is not None, ORPHAN_SECONDS, "the first request has not become a run")
        await _send(stage, pools, [HELLO, BROKEN, SILENT, ENDLESS])
        await _greet(stage, pools, requester)
        await _plan(stage, pools)
        await _kill_worker(stage, pools, orphan)
        await _wait(lambda: all(row.view for row in stage.board.rows), RUN_SECONDS, "not every run has ended")


async def sweep(stage: Stage) -> None:
    """Have the reaper look every few seconds, so that nobody waits for its minute."""
    while True:
        await asyncio.to_thread(stage.cloud.reap)
        stage.board.sweeps += 1
        await asyncio.sleep(SWEEP_SECONDS)


def _idle(board: Board) -> list[WorkerView]:
    return [worker for worker in board.workers.values() if worker.state is WorkerState.IDLE]


async def _send(stage: Stage, pools: Pools, scenes: Iterable[Scene], workspace: Workspace | None = None) -> None:
    requests: list[dict[str, Any]] = []
    for scene in scenes:
        request = _request(scene, pools)
        if workspace:
            request["workspace"] = workspace.model_dump()
        requests.append(request)
        _expect(stage, scene, pools)
    entries = [{"Id": str(number), "MessageBody": json.dumps(request)} for number, request in enumerate(requests)]
    queue = stage.cloud.outputs["RequestQueueUrl"]
    sqs = stage.cloud.client("sqs")
    answer = await asyncio.to_thread(lambda: sqs.send_message_batch(QueueUrl=queue, Entries=entries))
    if answer.get("Failed"):
        raise DemoFailed(f"SQS refused a request: {answer['Failed'][0]}")
    stage.board.happened(f"sent through SQS: {', '.join(scene.name for scene in scenes)}")


async def _greet(stage: Stage, pools: Pools, requester: Requester) -> None:
    row = _expect(stage, GREET, pools)
    stage.board.happened(f"sent over MQTT, with a certificate of its own: {GREET.name}")
    reply = await requester.ask(_request(GREET, pools))
    if not reply.accepted or reply.run != row.run_id:
        raise DemoFailed(f"the answer to {GREET.name} is not the expected one: {reply.error or reply.run}")
    stage.board.happened(f"answered over MQTT: {GREET.name} is accepted as run {reply.run}, {reply.state}")


async def _plan(stage: Stage, pools: Pools) -> None:
    program = find_program()
    if not program:
        stage.board.happened("neither terraform nor tofu is on PATH: no plan is shown")
        return
    packed = pack_workspace()
    workspace = await stage.api.upload(pools.ids[PoolKind.PRIVATE], packed.content, packed.sha256)
    await _send(stage, pools, [terraform_scene(program, state_environment(stage.cloud))], workspace)


async def _kill_worker(stage: Stage, pools: Pools, orphan: Row) -> None:
    def works() -> bool:
        return (
            orphan.seen is not None and orphan.seen.state is RunState.RUNNING and len(orphan.log) >= LINES_BEFORE_KILL
        )

    await _wait(works, ORPHAN_SECONDS, f"{orphan.scene.name} does not run")
    name = stage.board.name((orphan.seen and orphan.seen.worker) or "")
    agent = pools.agents[name]
    await asyncio.to_thread(agent.kill)
    stage.board.happened(f"SIGKILL to the agent of {name} (pid {agent.pid}): its run is lost once its lease is over")


def _expect(stage: Stage, scene: Scene, pools: Pools) -> Row:
    pool_id = pools.ids[scene.pool]
    row = Row(scene=scene, run_id=run_id(pool_id, scene.name), pool_id=pool_id)
    stage.board.rows.append(row)
    stage.start(_attend(stage, row))
    return row


async def _attend(stage: Stage, row: Row) -> None:
    """Follow a run from its beginning until it has ended and its log is whole."""
    while not (row.seen and (row.seen.begun_at or row.is_final)):
        await asyncio.sleep(LOOK_SECONDS)
    await follow_log(stage.api, stage.board, row)
    while not row.is_final:
        await asyncio.sleep(LOOK_SECONDS)
    # Its numbers are written to the run a moment after the log itself.
    view = await stage.api.run(row.run_id)
    while view.digest is None:
        await asyncio.sleep(LOOK_SECONDS)
        view = await stage.api.run(row.run_id)
    row.view = view


def _request(scene: Scene, pools: Pools) -> dict[str, Any]:
    timeouts = {"log_timeout": scene.log_timeout, "run_timeout": scene.run_timeout}
    return {
        "schema": 1,
        "id": scene.name,
        "pool": pools.ids[scene.pool],
        "command": list(scene.command),
        "environment": dict(scene.environment),
        **{name: value for name, value in timeouts.items() if value},
    }


async def _wait(holds: Callable[[], bool], seconds: float, problem: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise DemoFailed(f"{problem} within {seconds:.0f} s")
        await asyncio.sleep(LOOK_SECONDS)
