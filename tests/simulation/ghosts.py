"""What really happens, beside what the table says of it; and what must hold between the two."""

from collections import Counter

from quaymaster.dispatcher.settle import may_repeat
from quaymaster.domain import objects
from quaymaster.domain.run import Run
from quaymaster.domain.states import FINAL, Reason, RunState

from tests.simulation.changes import Rows
from tests.simulation.handlers import Handler
from tests.simulation.invariants import Table, check_table, read_table
from tests.simulation.machines import Machine
from tests.simulation.stage import Stage
from tests.simulation.violation import Invariant, must

LOST = frozenset({Reason.WORKER_LOST, Reason.LOG_TIMEOUT, Reason.INTERRUPTED})
TOLD_TO_END = frozenset({Reason.RUN_TIMEOUT, Reason.LOG_TIMEOUT})


class Ghosts:
    """Knows every command that ever began, and when every handler was at work."""

    def __init__(self, stage: Stage) -> None:
        self.table = Table()
        self.changed = True
        self._stage = stage
        self._begun: Counter[tuple[str, int]] = Counter()
        self._phases: Counter[tuple[str, int]] = Counter()
        self._well: set[str] = set()
        self._markers: dict[str, int] = {}
        self._time = 0
        self._started: dict[Handler, int] = {}
        self._disturbed: set[Handler] = set()

    # Handlers.

    def started(self, handler: Handler) -> None:
        """A handler begins: whoever else is at work is no longer alone."""
        self._time += 1
        self._disturbed.update(self._started)
        if self._started:
            self._disturbed.add(handler)
        self._started[handler] = self._time

    def ended(self, handler: Handler) -> None:
        """A handler has ended."""
        del self._started[handler]

    def was_alone(self, handler: Handler) -> bool:
        """Whether no other handler was at work beside it."""
        return handler not in self._disturbed

    # Commands.

    def notice(self, machine: Machine) -> None:
        """Judge what has just begun on a machine."""
        for run_id, attempt in machine.new_attempts():
            self._stage.say(f"{machine.name} begins {run_id}/{attempt}")
            self._begun[run_id, attempt] += 1
            machine.silent = self._stage.random.random() < 0.4
            if not machine.silent:
                machine.write()
            must(Invariant.BEGINS_ONCE, self._begun[run_id, attempt] == 1, f"{run_id}/{attempt} began twice")
            run = self._stage.world.table.run(run_id)
            began = run and (run.attempt > attempt or (run.attempt == attempt and run.state is not RunState.PREPARING))
            must(Invariant.GO_BY_THE_TABLE, began, f"{run_id}/{attempt} began while it was {run and run.state}")
        self._notice_phase(machine)

    def _notice_phase(self, machine: Machine) -> None:
        """Each phase in its order; one that may not be repeated once, and one that needs confirmation with it."""
        found = machine.new_phase()
        if not found:
            return
        run_id, number = found
        held, run = machine.agent.held, self._stage.world.table.run(run_id)
        spec = self._stage.world.table.specs([run_id]).get(run_id)
        if not held or not run or not spec:
            return
        told = run.attempt > held.attempt or run.phase >= number
        must(Invariant.GO_BY_THE_TABLE, told, f"phase {number} of {run_id} began while it was at phase {run.phase}")
        self._phases[run_id, number] += 1
        times = self._phases[run_id, number]
        phase = spec.phases[number] if spec.phases else None
        once = times == 1 or (phase.retryable if phase else run.retryable)
        must(Invariant.ONE_ATTEMPT_BEGINS, once, f"phase {number} of {run_id} began {times} times")
        if phase and phase.needs_confirmation:
            must(
                Invariant.CONFIRMED, run.confirmed_at, f"phase {number} of {run_id} began, and nobody has confirmed it"
            )
        if number:
            before = self._phases[run_id, number - 1]
            must(Invariant.CONFIRMED, before, f"phase {number} of {run_id} began before the one before it")

    def ends_well(self, machine: Machine) -> None:
        """A command is about to end well; where everybody can know it, nobody may call it lost."""
        held = machine.agent.held
        run = held and self._stage.world.table.run(held.run)
        if not held or not run or machine.doubted or machine.cut_since:
            return
        if run.phases > held.last + 1:
            # What follows may still end it in another way.
            return
        if run.state is RunState.RUNNING and (run.worker, run.attempt) == (machine.agent.worker_id, held.attempt):
            self._well.add(run.id)

    # What must hold.

    def inspect(self) -> None:
        """After each step."""
        stage = self._stage
        if self.changed:
            self.changed = False
            self.table = read_table(stage.world.table.records(), stage.world.pool.id)
            check_table(self.table)
        missing = stage.acknowledged - self.table.runs.keys()
        must(Invariant.NOT_LOST, not missing, f"acknowledged, and not there: {missing}")
        for run_id in self._well:
            run = self.table.runs[run_id]
            well = not run.is_final or run.state is RunState.FINISHED
            must(Invariant.ENDED_WELL, well, f"{run_id} ended well and is {run.state}, {run.reason}")
        for machine in stage.machines:
            self.notice(machine)
            self._inspect_command(machine)
        self._inspect_tasks()
        for key in stage.world.blobs.objects:
            self._markers.setdefault(key, self._time)

    def _inspect_command(self, machine: Machine) -> None:
        held = machine.agent.held
        if not machine.acts or machine.wedged or machine.doubted or not held:
            return
        run = self.table.runs[held.run]
        stands = (run.state, run.worker, run.attempt)
        as_it_should = stands == (RunState.RUNNING, machine.agent.worker_id, held.attempt)
        must(
            Invariant.NO_END_WHILE_IT_ACTS,
            as_it_should,
            f"{run.id}/{run.attempt} is {run.state} for {run.reason}, and {machine.name} acts for {held.attempt}",
        )

    def _inspect_tasks(self) -> None:
        pool, tasks = self._stage.world.pool, self._stage.world.tasks
        most = pool.settings.max_workers
        running = [task for task in tasks.running if task.arn not in self._stage.strays]
        must(Invariant.WITHIN_LIMIT, len(running) <= most, f"{len(running)} tasks run, {most} may")
        if not running:
            return
        places = {launch.id: launch.count for launch in self.table.launches}
        for launch_id, number in Counter(task.launch_id for task in running).items():
            must(
                Invariant.WITHIN_LIMIT,
                number <= places.get(launch_id, 0),
                f"launch {launch_id} has {places.get(launch_id)} places and {number} tasks",
            )

    def check_stop(self, arn: str) -> None:
        """A task is about to be stopped: not one that does what it was told to do."""
        for machine in self._stage.machines:
            held = machine.agent.held
            if machine.task != arn or not machine.acts or machine.wedged or machine.doubted or not held:
                continue
            run = self._stage.world.table.run(held.run)
            wanted = run and run.state is RunState.RUNNING and run.attempt == held.attempt and not run.ending
            must(Invariant.NO_END_WHILE_IT_ACTS, not wanted, f"{machine.name}'s task is stopped while {held.run} acts")

    def check_ends(self, before: Rows, after: Rows, handler: Handler) -> None:
        """A run is given up: not one whose end marker was there before anybody looked."""
        for key, new in after.items():
            old = before[key]
            if not isinstance(old, Run) or not isinstance(new, Run) or old.state is not RunState.RUNNING:
                continue
            if new.state is RunState.READY:
                self._check_repeatable(old)
            if old.ending:
                # What killed it says why it ended.
                continue
            lost = new.state is RunState.READY or (new.state in FINAL and new.reason in LOST)
            marker = objects.log_end_key(old.pool_id, old.id, old.attempt)
            seen = self._markers.get(marker)
            if lost and seen is not None and seen < self._started[handler]:
                end = self._stage.world.blobs.log_end(old.pool_id, old.id, old.attempt)
                told = end is not None and (end.outcome.reason == new.reason or may_repeat(old, end.outcome))
                must(Invariant.END_MARKER, told, f"{old.id}/{old.attempt} had ended, and is {new.state}, {new.reason}")

    def _check_repeatable(self, run: Run) -> None:
        """A run that had begun is to begin again: nothing of what has begun may be such that it must not."""
        spec = self._stage.world.table.specs([run.id]).get(run.id)
        if spec and spec.phases:
            begun = spec.phases[run.leg : run.phase + 1]
            must(Invariant.ONE_ATTEMPT_BEGINS, all(phase.retryable for phase in begun), f"{run.id} is to begin again")

    def check_healed(self) -> None:
        """Right after a sweep that nothing disturbed."""
        self.inspect()
        met = bool(self.table.anybodys and self.table.markers)
        must(Invariant.HEALED_BY_SWEEP, not met, f"tickets {self.table.anybodys}, markers {set(self.table.markers)}")

    def check_in_time(self) -> None:
        """Right after a sweep in the fair time: nothing is overdue."""
        now = self._stage.world.now
        records = [*self.table.runs.values(), *self.table.workers.values(), *self.table.launches]
        # What became due in this very sweep is the next one's.
        overdue = [record.key for record in records if record.due_at and record.due_at < now]
        must(Invariant.IN_TIME, not overdue, f"overdue after a sweep: {overdue}")
