"""A run ends, or is told to, when or as it should not."""

from datetime import datetime
from typing import Any

from quaymaster.dispatcher import release, settle
from quaymaster.dispatcher.reaper import reap_run
from quaymaster.dispatcher.requests import inbox
from quaymaster.dispatcher.workers import finish
from quaymaster.domain import run as runs
from quaymaster.domain.pool import PoolSettings, ticket_for
from quaymaster.domain.run import Run
from quaymaster.domain.states import RunState
from quaymaster.ports import Create, Replace

from tests.simulation.defects.mutation import Patch, always, mutation, nobody, nothing
from tests.simulation.violation import Invariant as I


@mutation(I.END_MARKER, I.ENDED_WELL)
def the_end_marker_is_ignored(patch: Patch) -> None:
    patch.setattr(settle, "end_with", nothing)
    shipped = settle.settle

    def blind(ports: Any, run: Run, settings: PoolSettings, loss: Any, now: datetime) -> Any:
        after = settle._after_loss(run, settings, loss, now)  # pyright: ignore[reportPrivateUsage]
        if after.state is RunState.READY:
            return settle.Settled(run=after, writes=(Replace(after), Create(ticket_for(after))))
        return settle.Settled(run=after, writes=(Replace(after),))

    for module in (release, finish, reap_run):
        assert module.settle is shipped
        patch.setattr(module, "settle", blind)


@mutation(I.WRITTEN_BEFORE_TOLD)
def a_report_is_answered_before_it_is_written(patch: Patch) -> None:
    shipped = finish._let_go  # pyright: ignore[reportPrivateUsage]

    def hasty(ports: Any, pools: Any, sender: Any, message: Any, change: Any) -> Any:
        finish._answer(ports, sender, message, None)  # pyright: ignore[reportPrivateUsage]
        return shipped(ports, pools, sender, message, change)

    patch.setattr(finish, "_let_go", hasty)


@mutation(I.NOT_LOST)
def a_request_is_acknowledged_whatever_became_of_it(patch: Patch) -> None:
    patch.setattr(inbox, "_later", nobody)


@mutation(I.FINAL, I.ALLOWED)
def the_final_can_end_again(patch: Patch) -> None:
    """A late report is taken although the run has ended."""

    def held_by(self: Run, worker: str, session: str, attempt: int) -> bool:
        return (self.worker, self.session, self.attempt) == (worker, session, attempt)

    patch.setattr(Run, "held_by", held_by)
    patch.setattr(runs, "allowed", always)
