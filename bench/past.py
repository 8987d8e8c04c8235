"""Reads of a dispatch that finds nobody idle, and of a sweep, in a Fargate pool with ever more tasks in its past."""

from datetime import UTC, datetime, timedelta
from typing import Any

from quaymaster import wiring
from quaymaster.adapters.records.codec import encode
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.reaper.sweep import sweep
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.worker import gone
from quaymaster.ports import Record

from bench.deployed import Functions, functions
from bench.figures import Figures, counted
from tests.shared.memory.records import POOL, a_worker

PAST = (0, 30_000)
CLUSTER = "arn:aws:ecs:us-east-1:000000000000:task/quaymaster"


def count_past() -> Figures:
    """Read units for each number of past tasks, and how much they grow from the first to the last."""
    found = {past: _reads(past) for past in PAST}
    figures = {f"{name}_{past}_past": units for past, units in found.items() for name, units in found[past].items()}
    first, last = (found[past] for past in PAST)
    figures |= {f"{name}_growth": last[name] / first[name] for name in first}
    return {name: counted(figure) for name, figure in figures.items()}


def _reads(past: int) -> dict[str, float]:
    with functions(PoolKind.FARGATE, task_definition="quaymaster-pool:1") as deployed:
        _fill(past)
        return {"rru_per_cold_dispatch": _cold_dispatch(deployed), "rru_per_sweep_of_a_pool": _sweep(deployed)}


def _cold_dispatch(deployed: Functions) -> float:
    deployed.meter.reset()
    deployed.request({"schema": 1, "id": "cold", "pool": POOL, "command": ["true"]})
    if len(deployed.ports.store.launches(POOL)) != 1:
        raise RuntimeError("no task was started")
    return deployed.meter.read_units


def _sweep(deployed: Functions) -> float:
    deployed.meter.reset()
    ports = deployed.ports
    sweep(ports, Pools(ports.store, ports.clock), ports.clock() + timedelta(minutes=5))
    return deployed.meter.read_units


def _fill(past: int) -> None:
    """So many workers, where the writes that ended them have put them; their launches these took away."""
    table: Any = wiring.clients().dynamodb
    later = datetime.now(UTC) + timedelta(days=1)
    records: list[Record] = []
    for number in range(past):
        task = f"{number:032x}"
        arn = f"{CLUSTER}/{task}"
        records.append(gone(a_worker(task, task_arn=arn), "its task stopped", later))
    for start in range(0, len(records), 25):
        items = [{"PutRequest": {"Item": encode(record)}} for record in records[start : start + 25]]
        table.batch_write_item(RequestItems={"quaymaster": items})
