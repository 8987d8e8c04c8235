"""Reads of the reaper for each overdue run, while more and more runs are active beside them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from quaymaster import wiring
from quaymaster.adapters.records.codec import encode
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.dispatcher.reaper.due import reap
from quaymaster.domain.states import RunState

from bench.deployed import functions
from bench.figures import Figures, counted
from tests.shared.memory.records import a_run

OVERDUE = 20
ACTIVE = (100, 1_000, 10_000)
READS = ("Query", "GetItem", "BatchGetItem")


def count_reads() -> Figures:
    """One figure for each number of active runs; flat is the goal."""
    return {f"reaper_reads_per_overdue_run_{active}_active": counted(_reads(active)) for active in ACTIVE}


def _reads(active: int) -> float:
    with functions() as deployed:
        now = datetime.now(UTC)
        table: Any = wiring.clients().dynamodb
        for start in range(0, active, 25):
            items: list[dict[str, Any]] = []
            for n in range(start, min(start + 25, active)):
                late = n < OVERDUE
                claimed = replace(
                    a_run(f"r{n}"),
                    state=RunState.PREPARING,
                    attempt=1,
                    worker="quaymaster.gone.worker",
                    session="s",
                    claimed_at=now - timedelta(hours=1 if late else 0),
                    due_at=now + timedelta(minutes=-1 if late else 10),
                )
                items.append({"PutRequest": {"Item": encode(claimed)}})
            table.batch_write_item(RequestItems={"quaymaster": items})
        deployed.meter.reset()
        ports = wiring.ports()
        reaped = reap(ports, Pools(ports.store, ports.clock), ports.clock() + timedelta(minutes=1))
        if reaped.due != OVERDUE:
            raise RuntimeError(f"{reaped.due} were due, not {OVERDUE}")
        return sum(deployed.meter.calls[name] for name in READS) / OVERDUE
