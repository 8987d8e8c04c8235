"""Runs that have a task of their own, because they named an image that is not their pool's.

Whatever keeps such a task from coming up is its run's affair: it ends the run, or has its image tried again later, and
holds back nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from quaymaster.dispatcher.tasks.image_definitions import definition_for, definition_of
from quaymaster.dispatcher.tasks.start_failures import end_waiting, ended_waiting
from quaymaster.domain.pool import Launch, Pool, Ticket, ticket_for
from quaymaster.domain.run import Run
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.trouble import StartFailure, TroubleKind
from quaymaster.errors import Busy, Refused, Unavailable
from quaymaster.ports import Ports, Replace, Write


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A run that waits for a task of its own, and the image that it names."""

    ticket: Ticket
    image: str


def wishes(ports: Ports, pool: Pool, launches: Sequence[Launch], limit: int, now: datetime) -> list[Wish]:
    """The runs whose task may be started now: none is on its way, and their image is not left alone for a while."""
    on_their_way = {launch.run for launch in launches if launch.starting}
    waiting = [ticket for ticket in ports.store.bound(pool.id, limit) if ticket.run_id not in on_their_way]
    if not waiting:
        return []
    specs = ports.store.specs(ticket.run_id for ticket in waiting)
    resting = {one.image for one in ports.store.image_definitions(pool.id) if one.rests(now)}
    found = [(ticket, specs[ticket.run_id].image) for ticket in waiting if ticket.run_id in specs]
    return [Wish(ticket=ticket, image=image) for ticket, image in found if image and image not in resting]


def define(ports: Ports, pool: Pool, wish: Wish) -> str | None:
    """The task definition for a run; None if there is none now: then the run has ended, or a sweep tries again."""
    try:
        return definition_for(ports, pool, wish.image).task_definition
    except Refused as error:
        note = f"no task definition for image {wish.image}: {error}"[:200]
        end_waiting(ports, wish.ticket, Reason.START_FAILED, note, ports.clock())
    except (Unavailable, Busy) as error:
        note = f"{type(error).__name__}: {error}"[:200]
        ports.log("image_not_defined", {"pool": pool.id, "run": wish.ticket.run_id, "note": note})
    return None


def start_failed(ports: Ports, launch: Launch, failure: StartFailure) -> tuple[Write, ...]:
    """The writes for a task of one run that came to nothing for a cause that is not the pool's.

    What will not pass ends the run, unless somebody has taken it meanwhile; what passes is noted with its image.
    """
    if failure.kind is TroubleKind.PERMANENT:
        run = waiting_run(ports, launch)
        return ended_waiting(run, ticket_for(run), failure.reason, failure.note, ports.clock()) if run else ()
    definition = definition_of(ports, launch)
    return (Replace(definition.troubled(failure, ports.clock(), ports.random(2))),) if definition else ()


def waiting_run(ports: Ports, launch: Launch) -> Run | None:
    """The run that a launch is for, if it still waits for its task."""
    run = ports.store.run(launch.run) if launch.run else None
    return run if run and run.bound and run.state is RunState.READY else None
