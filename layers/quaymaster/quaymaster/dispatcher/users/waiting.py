"""What a run waits for: a worker, a task, or what stands against both."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from quaymaster.domain.api import PoolCounts
from quaymaster.domain.images import ImageDefinition
from quaymaster.domain.placement import EVERYBODYS
from quaymaster.domain.pool import Launch, Pool, PoolKind, Ticket, ticket_for
from quaymaster.domain.run import Run
from quaymaster.domain.spot import Drought, Start, start_now
from quaymaster.domain.trouble import Trouble, TroubleKind

TOLD_BEFORE = timedelta(hours=1)
"""So long before a run ends for having waited too long, it says so."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What stands around a run: its pool, the pool's workers, the queue (best first), and the clock."""

    pool: Pool
    counts: PoolCounts
    reserved: int
    launch_note: str | None
    trouble: Trouble | None = None
    drought: Drought | None = None
    queue: Sequence[Ticket]
    own: "OwnTask | None" = None
    now: datetime


@dataclass(frozen=True, kw_only=True)
class OwnTask:
    """Of a run that is bound: the image that it names, what its tasks are made from, and the one on its way."""

    image: str
    definition: ImageDefinition | None = None
    launch: Launch | None = None


def waiting(run: Run, around: Surroundings) -> str:
    before = [ticket.run_id for ticket in around.queue]
    place = before.index(run.id) + 1 if run.id in before else None
    position = f"it is number {place} in the queue" if place else "it is in the queue"
    if around.own:
        position = f"it waits for a Fargate task of its own, of image {around.own.image}"
    expires_at = run.waits_since + around.pool.settings.queue_timeout
    near = expires_at - around.now <= TOLD_BEFORE
    ends = f"; it ends in {span(around.now, expires_at)} unless a worker takes it" if near else ""
    lacking = _lacking_its_own(around, around.own, run) if around.own else _lacking(around, run)
    return f"{position}: {lacking}{_tried(run)}{ends}"


def _lacking(around: Surroundings, run: Run) -> str:
    pool, counts = around.pool, around.counts
    if counts.idle:
        return f"{_count(counts.idle, 'worker')} of pool {pool.name} {_is(counts.idle)} idle and about to take runs"
    busy = f"all {_count(counts.busy, 'worker')} of pool {pool.name} are busy" if counts.busy > 1 else ""
    busy = f"the only worker of pool {pool.name} is busy" if counts.busy == 1 else busy
    if counts.absent:
        absent = f"{_count(counts.absent, 'worker')} of pool {pool.name} {_does(counts.absent)} not answer"
        busy = f"{busy}, and {absent}" if busy else absent
    if pool.kind_of is PoolKind.PRIVATE:
        return busy or f"no worker of pool {pool.name} is connected; start quaymaster-agent with its token and key"
    return _lacking_tasks(around, run, busy)


def _lacking_tasks(around: Surroundings, run: Run, busy: str) -> str:
    pool, counts = around.pool, around.counts
    said = f" (ECS said: {around.launch_note})" if around.launch_note else ""
    if around.trouble:
        said = f" ({_troubled(around, around.trouble, run)})"
    elif around.drought and _waits_for_spot(around, run):
        return _wait_for_spot(around, around.drought, busy)
    if counts.starting:
        starting = f"{_count(counts.starting, 'Fargate task')} of pool {pool.name} {_is(counts.starting)} starting"
        return f"{busy}, {starting}{said}" if busy else f"{starting}{said}"
    if full := _full(around):
        return f"{busy}; {full}{said}" if busy else f"{full}{said}"
    return f"a Fargate task of pool {pool.name} is about to be started{said}"


def _full(around: Surroundings) -> str:
    limit = around.pool.settings.max_workers
    if around.reserved < limit:
        return ""
    return f"pool {around.pool.name} is at its limit of {_count(limit, 'worker')} (max_workers)"


def _lacking_its_own(around: Surroundings, own: OwnTask, run: Run) -> str:
    """What stands against the pool's own tasks is nothing to it, unless every task would meet it."""
    trouble = own.definition.trouble if own.definition else None
    if not trouble and around.trouble and around.trouble.kind in EVERYBODYS:
        trouble = around.trouble
    said = f" ({_troubled(around, trouble, run)})" if trouble else ""
    if own.launch:
        return f"it is starting since {span(own.launch.created_at, around.now)}{said}"
    if not trouble and around.drought and _waits_for_spot(around, run):
        return _wait_for_spot(around, around.drought, "")
    return f"{_full(around) or 'it is about to be started'}{said}"


def _waits_for_spot(around: Surroundings, run: Run) -> bool:
    settings = around.pool.settings
    capacity = settings.capacity_for(read_only=ticket_for(run).read_only)
    return start_now(capacity, around.drought, settings.spot_patience, around.now) is Start.WAIT


def _wait_for_spot(around: Surroundings, drought: Drought, busy: str) -> str:
    times = f"{drought.times} times since" if drought.times > 1 else "at"
    text = f"pool {around.pool.name} waits for Fargate Spot, which had nothing to give {times} "
    text += f"{drought.since.isoformat(timespec='seconds')} (ECS said: {drought.note}); it is asked again in "
    text += span(around.now, drought.retry_at)
    patience = around.pool.settings.longest_patience
    if patience is not None:
        text += f", and from {(drought.since + patience).isoformat(timespec='seconds')} on tasks start on demand"
    return f"{busy}; {text}" if busy else text


def _troubled(around: Surroundings, trouble: Trouble, run: Run) -> str:
    """Why the pool's tasks do not come up, when the next is tried, and whether the run ends for it."""
    times = f"{trouble.times} starts in a row came to nothing" if trouble.times > 1 else "a start came to nothing"
    first, last = (at.isoformat(timespec="seconds") for at in (trouble.since, trouble.last_at))
    when = f"from {first} to {last}" if trouble.times > 1 else f"at {last}"
    text = f"{times} {when} ({trouble.kind}; ECS said: {trouble.note})"
    if trouble.retry_at > around.now:
        text += f"; the next is tried in {span(around.now, trouble.retry_at)}"
    until = trouble.ends_runs_from(run.waits_since, around.pool.settings.start_failure_limit)
    if until:
        text += f"; the run fails as {trouble.reason} in {span(around.now, until)} unless one works"
    if trouble.kind is TroubleKind.PERMANENT:
        text += f"; `quaymaster pool retry {around.pool.name}` starts one at once when it is mended"
    return text


def _tried(run: Run) -> str:
    tries: list[str] = []
    if run.offers:
        tries.append(f"{_count(run.offers, 'offer')} had no answer")
    if run.losses:
        tries.append(f"{_count(run.losses, 'worker')} {'were' if run.losses > 1 else 'was'} lost before it had begun")
    return f"; {', '.join(tries)}" if tries else ""


def span(at: datetime, now: datetime) -> str:
    seconds = max(0, round((now - at).total_seconds()))
    return f"{seconds}s" if seconds < 120 else f"{seconds // 60}m"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _does(number: int) -> str:
    return "does" if number == 1 else "do"
