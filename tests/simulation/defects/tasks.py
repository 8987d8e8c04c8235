"""Tasks and places do not go together."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from quaymaster.adapters.memory.tasks import MemoryTasks
from quaymaster.dispatcher.reaper import sweep
from quaymaster.dispatcher.tasks import bound, counting, follow, launch, reserve, strays
from quaymaster.dispatcher.workers import finish, register, task_events
from quaymaster.dispatcher.workers.finish import stop_task
from quaymaster.domain.pool import Launch, Pool
from quaymaster.domain.trouble import StartFailure
from quaymaster.domain.worker import Worker
from quaymaster.errors import NoCapacity
from quaymaster.ports import Count, Started

from tests.simulation.defects.mutation import Patch, always, mutation, nothing
from tests.simulation.violation import Invariant as I


@mutation(I.RESERVED)
def a_launch_token_is_used_twice(patch: Patch) -> None:
    patch.setattr(Launch, "token", property(lambda self: "launch.1"))


@mutation(I.WITHIN_LIMIT)
def each_try_of_a_launch_has_a_new_token(patch: Patch) -> None:
    """Although nobody knows whether the one before was made."""
    shipped = MemoryTasks.run
    numbers = iter(range(1_000_000_000))

    def fresh(self: MemoryTasks, launched: Launch, pool: Any) -> Any:
        return shipped(self, replace(launched, attempt=next(numbers)), pool)

    patch.setattr(MemoryTasks, "run", fresh)


@mutation(I.RESERVED, I.WITHIN_LIMIT)
def a_stopped_task_is_counted_each_time_it_is_told(patch: Patch) -> None:
    shipped = counting.account

    def again(ports: Any, pool_id: str, launch_id: str, task: str, failure: StartFailure | None, taken: Any) -> Any:
        writes = shipped(ports, pool_id, launch_id, task, failure, taken)
        return writes or (Count(pool_id, -1),)

    for module in (task_events, follow):
        patch.setattr(module, "account", again)


@mutation(I.ITS_OWN_TASK)
def a_task_of_one_run_takes_others_too(patch: Patch) -> None:
    def as_any(pool: Pool, worker: Worker, done: int = 0) -> bool:
        return worker.runs_done + done >= pool.settings.runs_per_worker

    for module in (finish, register):
        patch.setattr(module, "used_up", as_any)


@mutation(I.ITS_OWN_TASK)
def a_task_of_one_run_takes_the_next_of_the_queue(patch: Patch) -> None:
    def next_one(ports: Any, sender: Any, worker: Worker, run_id: str) -> Any:
        return finish.next_run(ports, sender, worker, contended=False)

    patch.setattr(register, "bound_run", next_one)


@mutation(I.WITHIN_LIMIT, I.RESERVED, I.ALL_ENDS, I.OFFERED_AGAIN)
def what_is_started_for_one_run_is_forgotten(patch: Patch) -> None:
    """Its image never comes up, and its run waits: nobody starts another."""
    shipped = bound.wishes

    def once(ports: Any, pool: Any, launches: Any, limit: int, now: datetime) -> Any:
        return [wish for wish in shipped(ports, pool, launches, limit, now) if not seen(wish.ticket.run_id)]

    started: set[str] = set()

    def seen(run_id: str) -> bool:
        known = run_id in started
        started.add(run_id)
        return known

    patch.setattr(reserve, "wishes", once)


@mutation(I.RESERVED, I.WITHIN_LIMIT)
def places_are_not_reserved_before_tasks_start(patch: Patch) -> None:
    def forget(pool_id: str, workers: int, most: int | None = None, reservations: int | None = None) -> Any:
        return Count(pool_id, min(workers, 0))

    patch.setattr(reserve, "Count", forget)


@mutation(I.NO_END_WHILE_IT_ACTS)
def scale_in_takes_tasks_that_are_at_work(patch: Patch) -> None:
    """Whoever has been at it for long, without its marker being taken first."""

    def careless(ports: Any, pool: Any, workers: Sequence[Worker], until: datetime) -> None:
        now = ports.clock()
        for worker in workers:
            if worker.launch and now - (worker.busy_since or now) >= timedelta(minutes=1):
                stop_task(ports, worker)

    patch.setattr(sweep, "_scale_in", careless)


@mutation(I.RESERVED, I.OFFERED_AGAIN, I.ALL_ENDS)
def a_task_that_no_launch_knows_runs_on(patch: Patch) -> None:
    patch.setattr(sweep, "stop_strays", nothing)


@mutation(I.NO_END_WHILE_IT_ACTS)
def whatever_runs_is_a_stray(patch: Patch) -> None:
    """Although its launch has a place for it, and its agent is at work."""
    patch.setattr(strays, "_is_stray", always)
    patch.setattr(Launch, "counted", property(lambda self: set[str]()))


@mutation(I.WITHIN_LIMIT, I.RESERVED)
def a_refused_repeat_gives_its_place_back(patch: Patch) -> None:
    """Whatever an earlier call of the launch has started."""

    def hasty(ports: Any, pool: Any, launched: Launch) -> Started:
        try:
            return ports.tasks.run(launched, pool)
        except NoCapacity as error:
            return Started((), (str(error),))

    patch.setattr(launch, "_run", hasty)
