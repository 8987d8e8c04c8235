"""Counting the tasks of a launch that have stopped: each once, whoever tells of it, an event or a sweep."""

from dataclasses import dataclass, replace

from quaymaster.dispatcher.tasks.bound import start_failed
from quaymaster.domain.cost import LEAST_SECONDS, Spent, month_of
from quaymaster.domain.placement import EVERYBODYS
from quaymaster.domain.pool import Launch, followed
from quaymaster.domain.trouble import SAID, StartFailure
from quaymaster.ports import Count, Ports, Replace, Write, rewritten


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What is known of a stopped task: for how long it is billed, and how many runs it ended."""

    seconds: float | None = None
    """None where nobody has told: then since its call, which is too long rather than too short."""
    runs: int = 0


def account(
    ports: Ports, pool_id: str, launch_id: str, task: str, failure: StartFailure | None, taken: Taken
) -> tuple[Write, ...]:
    """The writes that count a task of a launch as stopped, and what it has taken; none if it is counted already.

    One that never became a worker is a start that failed, with this `failure` unless it is noted already; the tasks of
    one launch that do so are one failure, because they share its cause.
    """
    launch = ports.store.launch(pool_id, launch_id)
    if not launch or task in launch.stopped:
        return ()
    if launch.answered and task not in launch.joined and not launch.task_of(task):
        # Its place was given back when the answer did not name it.
        return ()
    came_to_nothing = failure if task not in launch.joined else None
    counted = replace(
        launch,
        stopped=(*launch.stopped, task),
        note=came_to_nothing.note[:SAID] if came_to_nothing else launch.note,
    )
    writes: list[Write] = [*rewritten(launch, followed(counted, launch.due_at))]
    if counted.places != launch.places:
        writes.append(Count(pool_id, counted.places - launch.places, spent=_spent(ports, launch, taken)))
    if came_to_nothing and launch.run and came_to_nothing.kind not in EVERYBODYS:
        return (*writes, *start_failed(ports, launch, came_to_nothing))
    is_first = set(launch.stopped) <= set(launch.joined)
    starts = ports.store.starts(pool_id) if came_to_nothing and is_first else None
    if starts and came_to_nothing:
        writes.append(Replace(starts.troubled(came_to_nothing, ports.clock(), ports.random(2))))
    return tuple(writes)


def _spent(ports: Ports, launch: Launch, taken: Taken) -> Spent:
    now = ports.clock()
    told = (now - launch.called_at).total_seconds() if taken.seconds is None else taken.seconds
    # A task whose image was never pulled costs nothing.
    seconds = max(LEAST_SECONDS, round(told)) if told > 0 else 0
    return Spent(month=month_of(now), seconds=seconds, spot=launch.spot, runs=taken.runs)
