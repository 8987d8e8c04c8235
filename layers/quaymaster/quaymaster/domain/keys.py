"""The layout of the table: where each record lies. The order of sort keys is part of the design.

In one pool's partition, `bound#` < `idle#` < `launch#` < `pool` < `ticket#` < `worker#`, so that one Query reads the
settings together with the tickets. Workers that are over lie in a partition of their own, moved there by the write that
ends them; launches that are over are taken away: no read that dispatching or a sweep makes passes over them.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Key:
    """An item's primary key."""

    pk: str
    sk: str


POOLS = "pools"


def pool_partition(pool_id: str) -> str:
    """The partition that holds everything of a pool but its runs."""
    return f"pool#{pool_id}"


def past_partition(pool_id: str) -> str:
    """The partition of what is over in a pool; its items expire."""
    return f"past#{pool_id}"


def pool(pool_id: str) -> Key:
    """A pool's settings."""
    return Key(pool_partition(pool_id), "pool")


def pool_entry(pool_id: str) -> Key:
    """A pool's entry in the directory of all pools."""
    return Key(POOLS, f"pool#{pool_id}")


def pool_name(name: str) -> Key:
    """The item that keeps a pool's name unique and leads from it to the pool."""
    return Key(POOLS, f"name#{name}")


def counters(pool_id: str) -> Key:
    """A pool's counters."""
    return Key(pool_partition(pool_id), "counters")


def starts(pool_id: str) -> Key:
    """What stands against starting a pool's tasks."""
    return Key(pool_partition(pool_id), "counters#starts")


def marker(pool_id: str, random: str, worker_id: str) -> Key:
    """Present exactly while the worker may be given a run."""
    return Key(pool_partition(pool_id), f"idle#{random}#{worker_id}")


def ticket(pool_id: str, rank: int, accepted_at: datetime, run_id: str) -> Key:
    """Present exactly while the run is READY; sorts by class, then by acceptance."""
    return Key(pool_partition(pool_id), f"ticket#{rank}#{milliseconds(accepted_at):013}#{run_id}")


def bound_ticket(pool_id: str, rank: int, accepted_at: datetime, run_id: str) -> Key:
    """The same of a run that only the task started for it may take: out of the sight of whoever looks for a ticket."""
    return Key(pool_partition(pool_id), f"bound#{rank}#{milliseconds(accepted_at):013}#{run_id}")


def image_definition(pool_id: str, made_from: str, image: str) -> Key:
    """The task definition that was made from a pool's for an image."""
    return Key(pool_partition(pool_id), f"image#{hashlib.sha256(f'{made_from} {image}'.encode()).hexdigest()[:32]}")


def worker(pool_id: str, worker_id: str) -> Key:
    """A worker."""
    return Key(pool_partition(pool_id), f"worker#{worker_id}")


def past_worker(pool_id: str, worker_id: str) -> Key:
    """A worker that is gone, and is not sought."""
    return Key(past_partition(pool_id), f"worker#{worker_id}")


def agent(pool_id: str, worker_id: str) -> Key:
    """What a worker's agent said of itself; beside the worker so that claims need not carry it."""
    return Key(pool_partition(pool_id), f"agent#{worker_id}")


def launch(pool_id: str, launch_id: str) -> Key:
    """A RunTask call and the tasks that came of it."""
    return Key(pool_partition(pool_id), f"launch#{launch_id}")


def run(run_id: str) -> Key:
    """A run's state."""
    return Key(f"run#{run_id}", "run")


def spec(run_id: str) -> Key:
    """What a run executes, written once."""
    return Key(f"run#{run_id}", "spec")


def milliseconds(at: datetime) -> int:
    """Milliseconds since the epoch: how the table writes a time."""
    return round(at.timestamp() * 1000)
