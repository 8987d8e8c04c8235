"""One history: faults first, then a fair time in which everything must come to its end.

Each step draws from a randomness of its own, so that a history can be played again without some of its steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, cast

from quaymaster.adapters.memory.messenger import Sent
from quaymaster.dispatcher.requests.inbox import receive_batch
from quaymaster.dispatcher.requests.queue_records import Record as QueueRecord
from quaymaster.domain.messages import (
    Assign,
    Done,
    Go,
    HandedBack,
    Kill,
    LogDigest,
    Outcome,
    PhaseFinished,
    Prepared,
    Preparing,
    Refused,
    Registered,
    Remains,
    Renew,
)
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.run import Run
from quaymaster.domain.states import HELD, Reason, RunState
from quaymaster.domain.wakes import Wake, encode_wake
from quaymaster.domain.worker import WorkerState
from quaymaster.errors import NoCapacity, QuaymasterError, Unavailable
from quaymaster.errors import Refused as RefusedInput
from quaymaster.ports import key_of

from tests.shared.memory.agents import FINISHED
from tests.simulation.callsites import calling_site
from tests.simulation.changes import Rows, Word, check_change
from tests.simulation.faults import SLOW, Fate
from tests.simulation.ghosts import Ghosts
from tests.simulation.handlers import Crash, Handler
from tests.simulation.machines import Machine
from tests.simulation.stage import FEW_REQUESTS, MOST_REQUESTS, Body, Event, Stage
from tests.simulation.steering import ABOUT_UNCONFIRMED, ACTS
from tests.simulation.violation import Invariant, Violation, must

STEPS = 150
ROUNDS = 60
MOST_DELIVERIES = 2_000
"""So many events and messages a quiet system handles in the time of a few sweeps, at the very most."""
MOST_ROUNDS = 240
"""A task that takes one run and ends needs six of them, and many may follow each other in one place."""
MOST_PAUSED = 3
FEW_HOSTS = 2
SLOWEST = timedelta(minutes=1)
"""A message that is not lost comes within so long."""
SKIPPED = frozenset(
    {
        "not_reaped",
        "pool_not_swept",
        "worker_not_swept",
        "run_not_swept",
        "launch_not_followed",
        "task_not_reconciled",
        "definition_not_retired",
        "image_not_defined",
    }
)
"""What is logged of an item that a sweep could not handle, and that the next one finds again."""
FORESEEN = ("Lost", "Busy", "Unavailable", "no time is left")
TROUBLES = SKIPPED | {"not_announced", "launch_unanswered", "not_pushed", "not_woken"}
"""What is logged when a failure was put off to a later sweep."""


@dataclass(frozen=True, order=True)
class Step:
    """A step of a history by its number; a calm one is without faults."""

    number: int
    calm: bool = False

    def __str__(self) -> str:
        return f"{self.number}c" if self.calm else f"{self.number}"


def all_steps(count: int = STEPS) -> list[Step]:
    """Every step of a history, with faults."""
    return [Step(number) for number in range(1, count + 1)]


class History:
    """The history of one seed. `play` raises Violation."""

    def __init__(
        self, seed: int, *, kind: PoolKind | None = None, real: bool | None = None, rate: float | None = None
    ) -> None:
        self.seed = seed
        kind = kind or (PoolKind.FARGATE if seed % 2 else PoolKind.PRIVATE)
        real = bool(seed // 2 % 2) if real is None else real
        rate = (0.03, 0.06, 0.12)[seed % 3] if rate is None else rate
        self.current: Handler | None = None
        self.paused: list[Handler] = []
        self.violation: Violation | None = None
        self.owed = False
        self.fair = False
        self.stage = Stage(seed, kind, rate, self.watch, real=real)
        self.ghosts = Ghosts(self.stage)
        self.faults = self.stage.faults
        # Where as few wait as there are workers, runs and workers miss each other, if they ever do.
        self.sparse = self.stage.racing and seed % 20 == 2
        self.world = self.stage.world

    # A call of a handler.

    def watch(self, method: str, call: Callable[[], object], arguments: tuple[Any, ...]) -> object:
        """One call of a port by the handler whose turn it is."""
        handler = self.current
        if not handler:
            return call()
        site = calling_site(method)
        fate = self.faults.fate(handler, site, may_pause=True)
        if fate is not Fate.MADE:
            self.stage.say(f"    {handler.what}: {fate} {site}")
        if fate is Fate.PAUSE:
            handler.pause()
        if fate is Fate.CRASH_BEFORE:
            raise Crash
        if fate is Fate.FAILED:
            raise Unavailable("simulation", "failed")
        if fate is Fate.REFUSED:
            raise NoCapacity("simulation", "no capacity")
        answer = self._make(handler, method, call, arguments)
        if fate is Fate.CRASH_AFTER:
            raise Crash
        if fate is Fate.UNANSWERED:
            raise Unavailable("simulation", "answer lost")
        return answer

    def _make(self, handler: Handler, method: str, call: Callable[[], object], arguments: tuple[Any, ...]) -> object:
        """Make the call, and judge what it does; a violation stops the handler, which must not swallow it."""
        try:
            if method == "messenger.send":
                self._judge_message(handler, *arguments[1:3])
            elif method == "tasks.stop":
                self.ghosts.check_stop(arguments[0])
            elif method == "blobs.write_log" and self.faults.chance(5):
                self.stage.late_log(*arguments[1:3])
            if method != "store.commit":
                return call()
            keys = [key_of(write) for write in arguments]
            before: Rows = {key: self.world.table.due(key) for key in keys}
            try:
                return call()
            finally:
                self.ghosts.changed = True
                after: Rows = {key: self.world.table.due(key) for key in keys}
                word = handler.note if isinstance(handler.note, Word) else None
                check_change(before, after, word)
                self.ghosts.check_ends(before, after, handler)
        except Violation as violation:
            self.violation = violation
            raise Crash from violation

    def _judge_message(self, handler: Handler, worker_id: str, message: object) -> None:
        """Nothing is told before it is written."""
        if not isinstance(message, Go | Assign | Done) or not message.run:
            return
        run = self.world.table.run(message.run)
        attempt = message.attempt or 0
        what = f"{self.stage.of_message(message)} to {worker_id} while the run is {run and (run.state, run.attempt)}"
        if isinstance(message, Go):
            begun = run and (run.attempt > attempt or (run.attempt == attempt and run.state is not RunState.PREPARING))
            must(Invariant.GO_BY_THE_TABLE, begun, what)
        elif isinstance(message, Assign):
            must(Invariant.WRITTEN_BEFORE_TOLD, run and run.attempt >= attempt, what)
            large = message.spec.url.removeprefix("memory:GET:").partition("?")[0] if message.spec else None
            must(Invariant.WRITTEN_BEFORE_TOLD, not large or large in self.world.blobs.objects, f"{what}: no {large}")
        elif not (isinstance(handler.note, Word) and handler.note.lie):
            holder = run and (run.worker, run.session, run.attempt)
            held = run and run.state in HELD and holder == (worker_id, message.session, attempt)
            must(Invariant.WRITTEN_BEFORE_TOLD, not held, what)

    def turn(self, handler: Handler) -> None:
        """Let a handler go on until it pauses or ends."""
        self.current = handler
        try:
            handler.turn()
        finally:
            self.current = None
        if self.violation:
            raise self.violation
        if not handler.done:
            self.paused.append(handler)

    def start(
        self,
        name: str,
        what: str,
        body: Callable[[], object],
        then: Callable[[Handler], None],
        word: Word | None = None,
    ) -> None:
        """Call a function; `then` is told of its end."""
        container = self.stage.random.randrange(len(self.stage.containers))
        self.world.pools = self.stage.containers[container]
        handler = Handler(name, what, body, may_pause=self._may_pause())
        handler.note = word
        self.ghosts.started(handler)
        self._then[handler] = (container, len(self.world.logged), then)
        self.turn(handler)
        self.finish(handler)

    def _may_pause(self) -> bool:
        most = 1 if self.faults.racing else MOST_PAUSED
        return len(self.paused) < most and self.faults.may_pause()

    _then: dict[Handler, tuple[int, int, Callable[[Handler], None]]]

    def finish(self, handler: Handler) -> None:
        """What follows from a handler's end, if it has ended."""
        if not handler.done:
            return
        container, logged, then = self._then.pop(handler)
        self.ghosts.ended(handler)
        if isinstance(handler.error, Crash):
            self.stage.say(f"    {handler.what}: crashed")
            self.stage.containers[container] = self.stage.new_container()
        elif handler.error:
            self.stage.say(f"    {handler.what}: {type(handler.error).__name__} {handler.error}")
            foreseen = isinstance(handler.error, QuaymasterError) and not isinstance(handler.error, RefusedInput)
            must(Invariant.HANDLED, foreseen, f"{handler.what}: {handler.error!r}")
        if any(event in TROUBLES for event, _ in self.world.logged[logged:]):
            self.owed = True
        for event, fields in self.world.logged[logged:]:
            note = str(fields.get("note", ""))
            foreseen = event not in SKIPPED or note.startswith(FORESEEN)
            must(Invariant.HANDLED, foreseen, f"{event}: {note}")
        then(handler)

    # Deliveries.

    def deliver_event(self) -> None:
        """A function is called with an event."""
        stage = self.stage
        if not stage.events:
            return
        event = stage.events.pop(stage.random.randrange(len(stage.events)))
        if self.faults.chance():
            stage.say(f"lost: {event.what}")
            self.owed = self.owed or event.left < 3
            return
        if event.word and event.word.lie and self._came_true(event.word):
            return
        if self.faults.chance():
            stage.events.append(Event(event.use_case, event.what, event.deliver, event.at, event.word))
        self.call(event)

    def _came_true(self, word: Word) -> bool:
        """Whether it speaks by now of the command that its worker runs: nobody could tell that it is a lie."""
        run, attempt = (getattr(word.message, name, None) for name in ("run", "attempt"))
        found = self.world.table.run(str(run))
        held = found and attempt and found.held_by(word.worker_id, word.message.session, attempt)
        return bool(found and held and found.state is RunState.RUNNING)

    def call(self, event: Event) -> None:
        """Deliver one event; one whose handling fails comes again, and not for ever."""

        def then(handler: Handler) -> None:
            if handler.error is None:
                return
            if event.left > 1:
                event.left -= 1
                self.stage.events.append(event)
            else:
                self.stage.say(f"given up: {event.what}")
                self.owed = True

        self.stage.say(f"-> {event.what}")
        self.start(event.use_case, event.what, event.deliver, then, event.word)

    def deliver_bodies(self) -> None:
        """The dispatcher is called with a batch of one of the queues."""
        stage = self.stage
        if not stage.bodies:
            return
        stage.random.shuffle(stage.bodies)
        size, queue = stage.random.randint(1, 4), stage.bodies[0].queue
        batch = [body for body in stage.bodies if body.queue is queue][:size]
        stage.bodies = [body for body in stage.bodies if body not in batch]

        def then(handler: Handler) -> None:
            again = {body.id for body in batch}
            if handler.error is None:
                again = set(cast("list[str]", handler.result))
            for body in batch:
                if body.id in again:
                    body.failed = True
                    stage.bodies.append(body)
                else:
                    self._acknowledge(body)

        records = [QueueRecord(id=body.id, body=body.body, queue=body.queue) for body in batch]
        world, until = self.world, self.world.until
        what = f"batch of {', '.join(body.what for body in batch)}"
        stage.say(f"-> {what}")
        self.start("dispatch_runs", what, lambda: receive_batch(world.ports, world.pools, records, until), then)

    def _acknowledge(self, body: Body) -> None:
        body.failed = False
        if body.run:
            self.stage.acknowledged.add(body.run)
        if self.faults.chance():
            self.stage.bodies.append(body)

    def resume(self) -> None:
        """A handler that stood still goes on."""
        if self.paused:
            handler = self.paused.pop(self.stage.random.randrange(len(self.paused)))
            self.stage.say(f"   {handler.what} goes on")
            self.turn(handler)
            self.finish(handler)

    def go_on(self) -> None:
        """Whoever stands still goes on to the end."""
        while self.paused:
            self.resume()

    def hand_out(self, number: int | None = None) -> None:
        """The broker delivers a message to a worker, if it is there and the message has not expired."""
        stage = self.stage
        if not stage.outbound:
            return
        number = stage.random.randrange(len(stage.outbound)) if number is None else number
        at, sent = stage.outbound[number]
        if not self.faults.chance():
            stage.outbound.pop(number)
        if self.faults.chance() or (sent.expires and self.world.now > at + sent.expires):
            stage.say(f"lost: {stage.of_message(sent.message)} to {stage.name_of(sent.worker_id)}")
            self._unheard(sent)
            return
        for machine in stage.machines:
            if machine.is_there and machine.agent.worker_id == sent.worker_id:
                if machine.wedged and isinstance(sent.message, Kill | Refused):
                    continue
                stage.say(f"{machine.name} gets {stage.of_message(sent.message)}")
                machine.agent.take([sent.message])
                self.ghosts.notice(machine)
                if self.faults.slow in SLOW and machine.acts and self.faults.chance(5):
                    self.wedge(machine)

    def _unheard(self, sent: Sent) -> None:
        """Whoever does not hear that it is to end cannot know that it has been given up."""
        for machine in self.stage.machines:
            if isinstance(sent.message, Kill) and machine.agent.worker_id == sent.worker_id:
                machine.doubted = True

    # What agents do.

    def act(self) -> None:
        """An agent gets on with what it has in hand."""
        busy = [machine for machine in self.stage.machines if machine.alive and machine.agent.held]
        if busy:
            self.get_on(self.stage.random.choice(busy))

    def get_on(self, machine: Machine) -> None:
        """The next thing that this agent does."""
        held = machine.agent.held
        if not machine.alive or machine.frozen or not held:
            return
        if machine.wedged:
            return
        if held.stage == "preparing":
            machine.agent.prepare()
        elif held.asked_for is not None:
            # Nothing of it runs until it is answered, which it sees to by itself.
            return
        elif held.phase and held.stage == "running" and self.faults.chance(2):
            # Of what came before it some may be repeated, and it may not.
            self.die(machine)
        elif held.stage == "running":
            # Long enough that something may go wrong meanwhile.
            if self.stage.random.random() < (0.3 if self.fair or held.phase < held.last else 0.8):
                machine.write()
            else:
                self.end(machine)

    def end(self, machine: Machine) -> None:
        """A command ends."""
        held = machine.agent.held
        assert held
        well = self.stage.random.random() < 0.7
        if well and held.phase < held.last:
            self.stage.say(f"{machine.name} asks for phase {held.phase + 1} of {held.run}/{held.attempt}")
            machine.agent.go_on()
            return
        if well:
            self.ghosts.ends_well(machine)
        self.stage.say(f"{machine.name} ends {held.run}/{held.attempt} {'well' if well else 'badly'}")
        machine.end(FINISHED if well else Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=1))
        if self.faults.chance():
            # Its end marker is all that is left of it.
            worker_id = machine.agent.worker_id
            self.stage.events = [e for e in self.stage.events if not e.word or e.word.worker_id != worker_id]
            self.die(machine)

    # Time.

    def pass_time(self) -> None:
        """Time passes; agents' timers go off, and each minute the sweep is called."""
        seconds = self.stage.random.choice([1, 5, 20, 61, 61])
        lengths = [4, 10, 17] if self.stage.patient or self.faults.slow in SLOW else [1, 1, 1, 4, 10, 17]
        minutes = self.stage.random.choice(lengths) if seconds == 61 else 1
        for _ in range(minutes):
            if seconds >= 20 or not self.faults.rate:
                self.catch_up()
            self.wait(seconds)
            self.stage.collect()
            for action in (History.hand_out, History.hand_out, History.act) if minutes > 1 else ():
                action(self)

    def catch_up(self) -> None:
        """Whatever is slow has its end before much time has passed; where nothing goes wrong, nothing is slow."""
        self.go_on()
        self.inspect()
        self._deliver_older(SLOWEST if self.faults.rate else timedelta())
        for _ in range(0 if self.faults.rate else 30):
            self.stage.collect()
            while self.stage.starting:
                self.stage.start_task()
            self._deliver_older(timedelta())

    def _deliver_older(self, than: timedelta) -> None:
        now = self.world.now
        for entry in [entry for entry in self.stage.outbound if now - entry[0] >= than]:
            self.hand_out(self.stage.outbound.index(entry))
        late = [event for event in self.stage.events if now - event.at >= than]
        self.stage.events = [event for event in self.stage.events if now - event.at < than]
        for event in late:
            self.call(event)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        before = self.world.now
        self.world.wait(seconds)
        for machine in self.stage.machines:
            machine.tick(self.stage.say)
            self.speak(machine)
        if before.minute != self.world.now.minute:
            self.sweep()
            if self._overtakes():
                self.sweep()
            if self.faults.chance(2):
                again = Event("reap_overdue", "sweep, called twice", self.world.sweep, self.world.now)
                self.stage.events.append(again)

    def speak(self, machine: Machine) -> None:
        """What comes by itself of an agent at work: chunks, renewals, and that a preparation takes its time."""
        held, agent = machine.agent.held, machine.agent
        if not machine.is_there or not held:
            return
        if not machine.silent and self.stage.random.random() < 0.6:
            machine.write()
        fields: dict[str, Any] = {"session": agent.session, "run": held.run, "attempt": held.attempt}
        if self.stage.random.random() < 0.3 and held.stage == "preparing":
            self.stage.hear(agent.worker_id, "preparing", Preparing(**fields))
        elif self.stage.random.random() < 0.3 and held.stage == "running":
            fields["uploads"] = self.stage.random.choice(["ok", "failing"])
            self.stage.hear(agent.worker_id, "renew", Renew(**fields, quiet_seconds=1))

    def sweep(self) -> None:
        """The reaper is called."""

        def then(handler: Handler) -> None:
            logged = {event for event, _ in self.world.logged[start:]}
            if handler.error or logged & TROUBLES:
                self.owed = True
            elif self.ghosts.was_alone(handler):
                self.ghosts.check_healed()
                self.owed = False

        start = len(self.world.logged)
        self.stage.say("-> sweep")
        self.start("reap_overdue", "sweep", self.world.sweep, then)

    # Trouble.

    def trouble(self) -> None:
        """Something dies, stands still, lies, or only seems to."""
        living = [machine for machine in self.stage.machines if machine.alive]
        if not living:
            return
        at_work = [machine for machine in living if machine.acts]
        machine = self.stage.random.choice(at_work if at_work and self.faults.gentle else living)
        choices = [*TROUBLE]
        for module in sorted(self.faults.aims):
            choices += AIMED.get(module, [])
        how = self.stage.random.choice(choices)
        how(self, machine)

    def die(self, machine: Machine) -> None:
        """SIGKILL. A private host starts another agent, which knows what the one before left."""
        self.stage.say(f"kill {machine.name}")
        if machine.task:
            self.world.tasks.end(machine.task, "killed")
            self.stage.kill(machine)
            return
        held, stage = machine.agent.held, self.stage
        stage.kill(machine)
        if stage.random.random() < 0.3:
            stage.start_agent(worker_id=machine.agent.worker_id)
            return
        remains: list[Remains] = []
        if held and stage.random.random() < 0.5:
            remains = [Remains(worker_id=machine.agent.worker_id, run=held.run, attempt=held.attempt)]
        stage.start_agent(remains=remains)

    def terminate(self, machine: Machine) -> None:
        """SIGTERM; of a task on Spot because ECS wants its capacity back."""
        if not machine.is_there:
            return
        self.stage.say(f"terminate {machine.name}")
        task = self.stage.world.tasks.tasks.get(machine.task or "")
        if task and task.spot:
            self.stage.take_back(task.arn)
        machine.agent.terminate()

    def doubt(self, machine: Machine) -> None:
        """The broker says that it is gone, and it is not."""
        self.stage.say(f"{machine.name} seems to be disconnected")
        machine.doubted = True
        self.stage.disconnect(machine)

    def reconnect(self, machine: Machine) -> None:
        """It connects once more, after whatever kept it away."""
        self.stage.say(f"{machine.name} reconnects")
        machine.heal(self.stage.say)

    def cut_off(self, machine: Machine) -> None:
        """It loses the network, or stands still; the broker says so, sooner or later."""
        if machine.cut_since is None:
            frozen = self.stage.random.random() < 0.5
            self.stage.say(f"{machine.name} {'stands still' if frozen else 'is cut off'}")
            machine.cut(frozen=frozen)
            self.stage.disconnect(machine)

    def wedge(self, machine: Machine) -> None:
        """It can no longer end its command, or its preparation."""
        if machine.alive and machine.agent.held and not self.fair:
            self.stage.say(f"{machine.name} wedges")
            machine.wedged = True

    def come_back(self, machine: Machine) -> None:
        """Something that an agent, living or dead, said long ago comes once more."""
        speaker = self.stage.random.choice(self.stage.machines)
        if speaker.said:
            event, message = self.stage.random.choice(speaker.said)
            self.stage.say(f"{speaker.name} is heard again")
            self.stage.hear(speaker.agent.worker_id, event, message)

    def lie(self, machine: Machine) -> None:
        """It speaks of a run that is not its own, or of an attempt that never was."""
        runs = list(self.ghosts.table.runs.values())
        if not runs:
            return
        run, session = self.stage.random.choice(runs), machine.agent.session
        attempt = max(1, run.attempt + self.stage.random.choice([-1, 0, 0, 0, 1]))
        if self._is_own(machine, run, attempt):
            return
        fields: dict[str, Any] = {"session": session, "run": run.id, "attempt": attempt}
        outcome = Outcome(end="FINISHED", exit_code=0)
        message = self.stage.random.choice(
            [
                Prepared(**fields),
                HandedBack(**fields),
                Renew(**fields, quiet_seconds=0, uploads="failing"),
                PhaseFinished(**fields, outcome=outcome, log=LogDigest(lines=1, bytes=2, sha256="a" * 64)),
            ]
        )
        self.stage.say(f"{machine.name} lies")
        self.stage.hear(machine.agent.worker_id, EVENT_OF[type(message)], message, lie=True)

    def _is_own(self, machine: Machine, run: Run, attempt: int) -> bool:
        held = machine.agent.held
        in_hand = held is not None and (held.run, held.attempt) == (run.id, attempt)
        return in_hand or (run.worker, run.attempt) == (machine.agent.worker_id, attempt)

    # A whole history.

    def play(self, steps: Sequence[Step] | None = None) -> None:
        """Faults first, then a fair time. Raises Violation."""
        self._then = {}
        try:
            for step in all_steps() if steps is None else steps:
                self.step(step)
            self.come_to_rest()
        except Violation as violation:
            raise Violation(violation.invariant, self.stage.readable(str(violation).partition("] ")[2])) from violation
        finally:
            for handler in self.paused:
                handler.kill()

    def step(self, step: Step) -> None:
        """One thing happens."""
        self.faults.random = Random(self.seed * 1_000_003 + step.number)
        self.faults.calm = step.calm
        stage = self.stage
        stage.collect()
        if self.faults.chance(4) and any(machine.alive for machine in stage.machines):
            self.trouble()
        else:
            stage.random.choice(self.possible())(self)
        stage.collect()
        self.inspect()

    def possible(self) -> "list[Callable[[History], None]]":
        """What can happen next, each as often as it is likely."""
        stage = self.stage
        weights: list[tuple[Callable[[History], None], int]] = [
            (History.pass_time, 1),
            (History.request, 2 * self._wants_more()),
            (History.deliver_event, 4 * bool(stage.events)),
            (History.deliver_bodies, 2 * bool(stage.bodies)),
            (History.hand_out, 4 * bool(stage.outbound)),
            (History.act, 3 * any(machine.alive and machine.agent.held for machine in stage.machines)),
            (History.start_task, 2 * bool(stage.starting)),
            (History.arrive, 2 * self._expects_agents()),
            (History.back_again, bool(self.cut_off_machines())),
            (History.resume, len(self.paused) if self.sparse else 2 * len(self.paused)),
            (History.go_on, 2 * bool(stage.racing and self.paused and not self.sparse)),
            (History.sweep, int(self._overtakes())),
            (History.steer, self.stage.steered * (8 if self._unconfirmed() else 2)),
        ]
        return [action for action, weight in weights for _ in range(weight)]

    def _wants_more(self) -> bool:
        asked = len(self.stage.accepted)
        if self.sparse:
            over = sum(run.is_final for run in self.ghosts.table.runs.values())
            return asked < MOST_REQUESTS * 4 and asked - over < FEW_HOSTS
        return asked < (FEW_REQUESTS if self.stage.patient else MOST_REQUESTS * (2 if self.stage.racing else 1))

    def _overtakes(self) -> bool:
        """Whether somebody stands still where this history wants it, so that a sweep may overtake."""
        return self.faults.slow in SLOW and 0 < len(self.paused) < MOST_PAUSED

    def cut_off_machines(self) -> list[Machine]:
        """The living ones that reach nobody."""
        return [machine for machine in self.stage.machines if machine.alive and machine.cut_since]

    def request(self) -> None:
        """A request comes in."""
        self.stage.submit()
        if self.faults.chance(3):
            self.stage.submit_nonsense()
            if self.stage.kind is PoolKind.PRIVATE:
                self.stage.knock()

    def _unconfirmed(self) -> list[Run]:
        """The runs that wait for somebody."""
        return [run for run in self.ghosts.table.runs.values() if run.state is RunState.UNCONFIRMED]

    def steer(self) -> None:
        """Somebody cancels, stops, kills or extends a run, whatever stands in the way; what fails is not repeated."""
        runs = list(self.ghosts.table.runs.values())
        if not runs:
            return
        # What has ended is steered too, and less often.
        going = [run for run in runs if not run.is_final]
        if (unconfirmed := self._unconfirmed()) and self.stage.random.random() < 0.7:
            going = unconfirmed
        run = self.stage.random.choice(going if going and self.stage.random.random() < 0.9 else runs)

        def then(handler: Handler) -> None:
            # What a confirmation leaves undone, the next sweep does.
            self.owed = self.owed or handler.error is not None

        waits = run.state is RunState.UNCONFIRMED and self.stage.random.random() < 0.8
        what, act = self.stage.random.choice(ABOUT_UNCONFIRMED if waits else ACTS)

        self.stage.say(f"-> {what} {run.id}")
        self.start("steering", f"{what} {run.id}", lambda: act(self.world.ports, run.id), then)

    def start_task(self) -> None:
        """A task comes up."""
        self.stage.start_task()

    def arrive(self) -> None:
        """The agent of a host starts, while requests come in."""
        self.stage.start_agent()

    def _expects_agents(self) -> bool:
        hosts = self.stage.kind is PoolKind.PRIVATE and self.stage.racing
        return hosts and len(self.stage.machines) < (FEW_HOSTS if self.sparse else MOST_REQUESTS)

    def back_again(self) -> None:
        """A machine that was cut off is back."""
        self.reconnect(self.stage.random.choice(self.cut_off_machines()))

    def inspect(self) -> None:
        """Everything that must hold after a step."""
        self.ghosts.inspect()
        rung = any(body.body == encode_wake(Wake(self.world.pool.id)).decode() for body in self.stage.bodies)
        quiet = (
            not self.paused and not self.owed and not rung and not any(event.left < 3 for event in self.stage.events)
        )
        if quiet and not any(body.failed for body in self.stage.bodies):
            table = self.ghosts.table
            met = bool(table.anybodys and table.markers)
            must(Invariant.NO_LOST_WAKE_UP, not met, f"tickets {table.anybodys}, markers {set(table.markers)}")

    # The fair time.

    def come_to_rest(self) -> None:
        """No more faults; every agent comes back, and all must end."""
        self.faults.random = Random(self.seed * 1_000_003)
        self.faults.calm = self.fair = True
        self.stage.say("--- from here on all is well")
        self.go_on()
        for machine in self.stage.machines:
            if machine.alive and machine.wedged:
                self.die(machine)
            elif machine.alive and machine.cut_since:
                self.reconnect(machine)
        if self.stage.kind is PoolKind.PRIVATE:
            self.stage.start_agent()
        for _ in range(ROUNDS):
            self.exhaust()
            if self.has_ended():
                break
            self.wait(61)
            self.inspect()
            self.ghosts.check_in_time()
        self.check_the_end()

    def exhaust(self) -> None:
        """Deliver everything, and let the agents do all that they have in hand."""
        stage, left = self.stage, MOST_DELIVERIES
        for _ in range(MOST_ROUNDS):
            stage.collect()
            if not stage.events and not stage.outbound and not stage.bodies and not stage.starting:
                return
            while left and (stage.events or stage.bodies):
                left -= 1
                # What cannot be handled comes again: for ever, if nothing is ever able to.
                (self.deliver_event if stage.events else self.deliver_bodies)()
                self.inspect()
            while stage.outbound:
                self.hand_out()
            while stage.starting:
                stage.start_task()
            for machine in self.stage.machines:
                self.get_on(machine)
        must(Invariant.ALL_ENDS, False, "the agents and the control plane talk without an end")

    def has_ended(self) -> bool:
        """Whether every run is final, and that is told, and every agent that stays is offered work again."""
        runs = [self.world.table.run(run_id) for run_id in self.stage.accepted.values()]
        return all(run and run.is_final and not run.owes_reply for run in runs) and not self.left_out()

    def left_out(self) -> list[str]:
        """Agents that live and stay, and are not offered work."""
        found: list[str] = []
        for machine in self.stage.machines:
            worker = self.world.table.worker(self.world.pool.id, machine.agent.worker_id)
            offered = worker and worker.state in (WorkerState.IDLE, WorkerState.LEAVING)
            if machine.alive and not machine.agent.leaving and not offered:
                found.append(f"{machine.name} is {worker and worker.state}")
        return found

    def check_the_end(self) -> None:
        """All that was asked for is final, all that lives is whole, and no place is held for nothing."""
        for name, run_id in self.stage.accepted.items():
            run = self.world.table.run(run_id)
            must(Invariant.NOT_LOST, run, f"{name} was accepted, and is no more")
            must(Invariant.ALL_ENDS, run and run.is_final, f"{name} is {run and run.state}")
            must(Invariant.REPLIED, run and not run.owes_reply, f"nobody was told how {name} ended")
        must(Invariant.OFFERED_AGAIN, not self.left_out(), ", ".join(self.left_out()))
        if self.stage.kind is PoolKind.FARGATE:
            self.wait(timedelta(hours=2).total_seconds())
            for _ in range(30):
                self.exhaust()
                self.wait(61)
            reserved, running = self.world.reserved(), len(self.world.tasks.running)
            kept = reserved == running <= self.stage.warm
            must(Invariant.RESERVED, kept, f"{reserved} places are reserved for {running} tasks")


TROUBLE: list[Callable[[History, Machine], None]] = [
    History.die,
    History.terminate,
    History.doubt,
    History.reconnect,
    *[History.cut_off] * 4,
    History.wedge,
    History.come_back,
    History.come_back,
    History.lie,
    History.lie,
]
AIMED: dict[str, list[Callable[[History, Machine], None]]] = {
    "reap_run": [*[History.wedge] * 12, *[History.cut_off] * 4],
    "assemble": [*[History.wedge] * 6, *[History.cut_off] * 6],
    "reap_worker": [History.cut_off] * 12,
    "release": [History.wedge] * 12,
    "announce": [History.wedge] * 6,
    "task_events": [History.terminate] * 12,
}
"""What is likelier in a history that aims at a call of this module."""
EVENT_OF = {Prepared: "prepared", HandedBack: "handed_back", Renew: "renew", PhaseFinished: "phase_finished"}

__all__ = ["FINISHED", "History", "Registered", "Step", "all_steps"]
