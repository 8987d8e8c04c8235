"""What surrounds the use cases in a history: the table, machines with agents, ECS, and all that is under way."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from quaymaster.adapters.memory.messenger import Sent
from quaymaster.adapters.memory.weakness import NoWeakness
from quaymaster.dispatcher.placing.spec_object import MOST_IN_A_MESSAGE
from quaymaster.dispatcher.pool_cache import Pools
from quaymaster.domain import ids
from quaymaster.domain.messages import Executor, FromAgent, Outcome, Registered, Remains, ToAgent
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.spot import Capacity
from quaymaster.domain.states import Reason
from quaymaster.domain.wakes import Wake, encode_wake
from quaymaster.ports import QueueName
from quaymaster_worker.protocol.state.held import Identity

from tests.shared.memory.agents import FakeAgent, Held, write_end_marker
from tests.shared.memory.world import NAMESPACE, World
from tests.simulation import planted
from tests.simulation.changes import Word
from tests.simulation.faults import SLOW, Faults
from tests.simulation.machines import DIGEST, Machine
from tests.simulation.real_agent import RealAgent
from tests.simulation.watched import Watch, watched

INTERNAL = QueueName.INTERNAL
DELIVERIES = 3
"""How often an event is delivered whose handling fails, as Lambda does."""
MOST_REQUESTS = 8
FEW_REQUESTS = 3
NO_IMAGE = "CannotPullContainerError: image not found"
SLOW_REGISTRY = "CannotPullContainerError: i/o timeout"
IMAGES = ("registry.example/red:1", "registry.example/blue:1")
CONTAINERS = 2
"""So many warm processes, each with its own cache of pools."""


@dataclass
class Event:
    """Something on its way to a function that is called with it; `word` is what an agent said in it."""

    use_case: str
    what: str
    deliver: Callable[[], object]
    at: datetime
    word: Word | None = None
    about: str | None = None
    left: int = DELIVERIES


@dataclass
class Body:
    """A message of one of the queues. They lose nothing, and bring it until it is acknowledged."""

    id: str
    body: str
    what: str
    queue: QueueName = QueueName.REQUESTS
    failed: bool = False
    run: str | None = None


PLAN = {"name": "plan", "command": ["plan"], "retryable": True}
CHECK = {"name": "check", "command": ["check"], "retryable": True, "run_timeout": "3m"}
APPLY = {"name": "apply", "command": ["apply"]}
CONFIRMED_APPLY = APPLY | {"needs_confirmation": True}
PHASES = (
    [PLAN, *(APPLY | {"name": f"apply{number}"} for number in range(4))],
    [PLAN, CONFIRMED_APPLY],
    [PLAN, CONFIRMED_APPLY],
    [PLAN, CHECK, CONFIRMED_APPLY],
    [APPLY | {"name": "first"}, CONFIRMED_APPLY, CHECK],
)
"""What requests of several phases ask for."""
LARGE = {"LARGE": "x" * (MOST_IN_A_MESSAGE + 1)}
"""An environment that no message carries."""


class Stage:
    """The world of one history; all its randomness is drawn from `faults.random`, which each step replaces.

    In a patient one more time passes and less is asked for, so that tasks have nothing to do.
    """

    def __init__(self, seed: int, kind: PoolKind, rate: float, watch: Watch, *, real: bool) -> None:
        self.seed = seed
        self.real = real
        self.kind = kind
        self.faults = Faults(seed=seed, rate=rate, random=Random(seed))
        self.patient = seed % 5 == 1
        self.racing = self.faults.racing
        self.steered = bool(rate) and seed % 3 == 1
        self.phased = self.steered or seed % 7 == 3
        self.warm = int(kind is PoolKind.FARGATE and seed % 8 == 5)
        self.world = World(
            kind,
            seed=seed,
            max_workers=3,
            runs_per_worker=8 if self.patient else 2,
            offers=50,
            losses=40,
            idle_timeout=timedelta(minutes=1 if self.patient else 5),
            warm=self.warm,
            capacity=tuple(Capacity)[seed % 3],
            images=("registry.example/*",) if kind is PoolKind.FARGATE else (),
            confirmation_timeout=timedelta(minutes=45 if seed % 15 == 4 else 10),
        )
        self.world.table.weakness = self.faults
        self.world.tasks.tasks.clear()
        self.world.ports = watched(
            self.world.ports, self.world.table, watch, lambda size: self.faults.random.randbytes(size)
        )
        self.containers = [self.new_container() for _ in range(CONTAINERS)]
        self.machines: list[Machine] = []
        self.events: list[Event] = []
        self._knocks = 0
        self.bodies: list[Body] = []
        self.outbound: list[tuple[datetime, Sent]] = []
        self.accepted: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self.starting: list[str] = []
        self.known_tasks: set[str] = set()
        self.stopped_tasks: set[str] = set()
        self.taken_back: set[str] = set()
        self.strays: set[str] = set()
        self.lines: list[tuple[datetime, str]] = []
        self._sessions = 0
        self._plant()
        if kind is PoolKind.PRIVATE:
            for _ in range(0 if self.racing else 2):
                self.start_agent()

    def _plant(self) -> None:
        """The table is not empty at the start."""
        self.world.table.weakness = NoWeakness()
        self.world.table.commit(*planted.orphan())
        if self.seed % 4 == 1:
            self.world.table.commit(*planted.miscounted())
            self.world.tasks.images |= planted.REVISIONS
            self.world.tasks.age()
        if self.kind is PoolKind.FARGATE and self.seed % 3 == 0:
            strays = {task.arn: task for task in planted.strays(self.world.pool.task_definition or "")}
            self.world.tasks.tasks |= strays
            self.strays |= strays.keys()
        runs = [planted.waiting_with_a_deadline] if self.seed % 4 < 2 else []
        if self.kind is PoolKind.FARGATE and self.seed % 4 == 3:
            # Here no worker is there before the first sweep.
            runs.append(planted.waiting_for_too_long)
        if self.faults.slow in SLOW:
            runs += [planted.overdue_ending, planted.unassembled]
        for plant in runs:
            run, writes = plant()
            self.world.table.commit(*writes)
            self.accepted[f"r{len(self.accepted)}"] = run.id
            if plant is planted.overdue_ending:
                # Whoever ended it has rung, and more than once: one of these may meet the sweep.
                wake = encode_wake(Wake(run.pool_id, run.key)).decode()
                self.bodies += [Body(f"wake-planted-{number}", wake, "wake-up", INTERNAL) for number in range(3)]
        self.world.table.weakness = self.faults

    @property
    def random(self) -> Random:
        """This step's randomness."""
        return self.faults.random

    def new_container(self) -> Pools:
        """A process that has just started: it remembers nothing."""
        return Pools(self.world.ports.store, self.world.clock)

    def say(self, line: str) -> None:
        """Note a line of the history."""
        self.lines.append((self.world.now, line))

    @property
    def trace(self) -> list[str]:
        """The history so far, as people read it."""
        return [self.readable(f"{at:%H:%M:%S} {line}") for at, line in self.lines]

    # Names that a reader can tell apart.

    def name_of(self, worker_id: str) -> str:
        """`w3` for the third agent, with `'` for those of another session of the same id."""
        found = next((machine for machine in reversed(self.machines) if machine.agent.worker_id == worker_id), None)
        return found.name if found else worker_id[-6:]

    def readable(self, text: str) -> str:
        """Ids of workers and runs replaced by their short names."""
        for machine in self.machines:
            text = text.replace(machine.agent.worker_id, machine.name)
        for name, run_id in self.accepted.items():
            text = text.replace(run_id, name)
        return text

    def of_message(self, message: ToAgent | FromAgent) -> str:
        """`Assign r2/1`."""
        run, attempt = getattr(message, "run", None), getattr(message, "attempt", None)
        return f"{type(message).__name__} {run}/{attempt}" if run else type(message).__name__

    # Agents.

    def start_agent(
        self, task: str | None = None, remains: Sequence[Remains] = (), worker_id: str | None = None
    ) -> Machine:
        """An agent process starts and registers."""
        self._sessions += 1
        number = len(self.machines) + 1
        launch = self.world.tasks.tasks[task].launch_id if task else None
        worker_id = worker_id or ids.worker_id(
            NAMESPACE, self.world.pool.id, ids.task_id(task) if task else f"{number:08}"
        )
        session = f"session-{self._sessions:04}"
        made: list[Machine] = []

        def publish(event: str, message: FromAgent) -> None:
            if machine := made[0] if made else None:
                machine.said = [*machine.said[-20:], (event, message)]
                if not machine.alive or machine.cut_since:
                    return
            self.hear(worker_id, event, message)

        agent: FakeAgent | RealAgent
        if self.real:
            identity = Identity(worker_id=worker_id, session=session, agent_version="1", launch=launch)
            agent = RealAgent(self.world, identity, publish, remains)
        else:
            agent = FakeAgent(
                worker_id=worker_id, session=session, publish=publish, world=self.world, launch=launch, prompt=False
            )
        machine = Machine(name=f"w{number}", agent=agent, world=self.world, task=task)
        made.append(machine)
        self.machines.append(machine)
        self.say(f"{machine.name} starts ({session}{', a task' if task else ''})")
        if isinstance(agent, FakeAgent):
            agent.register(*remains)
        else:
            agent.register()
        return machine

    def hear(self, worker_id: str, event: str, message: FromAgent, *, lie: bool = False) -> None:
        """A message of a worker is on its way."""
        body, at = message.encode(), self.world.now
        what = f"{'lie: ' if lie else ''}{self.of_message(message)} of {self.name_of(worker_id)}"
        word = Word(worker_id=worker_id, message=message, lie=lie)
        self.events.append(Event(event, what, lambda: self.world.hear(worker_id, event, body, at), at, word))

    def disconnect(self, machine: Machine) -> None:
        """The broker says that a worker's connection is lost."""
        worker_id, at = machine.agent.worker_id, self.world.now
        what = f"presence: {machine.name} disconnected"
        self.events.append(
            Event("disconnected", what, lambda: self.world.disconnect(worker_id, at), at, about=worker_id)
        )

    def kill(self, machine: Machine) -> None:
        """The process is gone, and its command with it."""
        machine.alive = False
        self.disconnect(machine)

    def late_log(self, run_id: str, attempt: int) -> None:
        """The worker of an attempt that was given up is back, and closes its log before anybody else does."""
        self.say(f"    the log of {run_id}/{attempt} is closed by its worker after all")
        outcome = Outcome(end="FAILED", reason=Reason.WORKER_LOST, exit_code=-9)
        write_end_marker(self.world, Held(run_id, attempt, "finished"), DIGEST, outcome)

    # Requests.

    def submit(self) -> None:
        """A request comes into the queue."""
        number = len(self.accepted)
        name, record = f"r{number}", f"record-{number}"
        named = self.random.random() < 0.8
        request = {
            "schema": 1,
            "pool": self.world.pool.name if self.random.random() < 0.7 else self.world.pool.id,
            "command": ["true"],
            "environment": LARGE if self.random.random() < 0.1 else {},
            "retryable": self.random.random() < 0.2,
            "reply_to": "quaymaster/replies/c",
            "reply_on": self.random.choice(["accepted", "accepted", "ended", "both"]),
            "type": self.random.choice(["task", "proposed", "tracked"]),
            "log_timeout": "4m",
            "run_timeout": self.random.choice(["2m", "70m"]),
        } | ({"id": name} if named else {})
        if self.phased and self.random.random() < (0.9 if self.faults.gentle or not self.steered else 0.4):
            request |= {"command": [], "retryable": False, "phases": self.random.choice(PHASES)}
        if self.kind is PoolKind.FARGATE and self.random.random() < 0.3:
            request["image"] = self.random.choice(IMAGES)
        run_id = ids.run_id(self.world.pool.id, name if named else f"sqs:{record}")
        self.accepted[name] = run_id
        self.bodies.append(Body(record, json.dumps(request), f"request {name}", run=run_id))

    def submit_nonsense(self) -> None:
        """A request that is refused, told to whoever waits for the answer, or a wake-up for the whole pool."""
        number = len(self.bodies) + self.random.randrange(1000)
        body = self.random.choice(
            [
                json.dumps(
                    {"schema": 1, "pool": "no-such-pool", "command": ["true"], "reply_to": "quaymaster/replies/c"}
                ),
                "nonsense",
                encode_wake(Wake(self.world.pool.id)).decode(),
            ]
        )
        # A wake-up of a requester's is refused, and so is a request that nobody has wrapped.
        own = "wake" in body
        queue = INTERNAL if own is (self.random.random() < 0.8) else QueueName.REQUESTS
        self.bodies.append(Body(f"nonsense-{number}", body, f"nonsense {body[:30]}", queue))

    def knock(self) -> None:
        """An agent of another kind registers; nothing comes of it but that it hears so."""
        self._knocks += 1
        worker_id = ids.worker_id(NAMESPACE, self.world.pool.id, f"other{self._knocks:03}")
        self.hear(worker_id, "registered", Registered(session="session-9999", executor=Executor.DOCKER))

    # What is on its way.

    def collect(self) -> None:
        """What the control plane published, rang, started or stopped is on its way."""
        self.outbound += [(self.world.now, sent) for sent in self.world.messenger.sent]
        self.world.messenger.sent.clear()
        self.world.messenger.replies.clear()
        for body in self.world.queue.take():
            self.bodies.append(Body(f"wake-{len(self.bodies)}", body, "wake-up", INTERNAL))
        self.world.queue.refused.clear()
        self._follow_tasks()
        for machine in self.machines:
            if machine.alive and isinstance(machine.agent, RealAgent) and machine.agent.left:
                self.say(f"{machine.name} leaves")
                if machine.task:
                    self.world.tasks.end(machine.task, "its agent ended")
                self.kill(machine)

    def _follow_tasks(self) -> None:
        tasks = self.world.tasks.tasks
        for arn, task in list(tasks.items()):
            if arn not in self.known_tasks:
                self.known_tasks.add(arn)
                self.starting.append(arn)
            if task.stopped and arn not in self.stopped_tasks:
                self.stopped_tasks.add(arn)
                self._task_stopped(arn)

    def _task_stopped(self, arn: str) -> None:
        self.say(f"task {arn[-4:]} stops")
        said: dict[str, str] = {"stopped_reason": self.world.tasks.tasks[arn].stopped or ""}
        if arn in self.taken_back:
            said["stop_code"] = "SpotInterruption"
            if not int(arn[-1], 16) % 2:
                self._notice(arn)
        if arn in self.starting:
            self.starting.remove(arn)
        for machine in self.machines:
            if machine.task == arn and machine.alive:
                self.kill(machine)
        what = f"ECS: task {arn[-4:]} stopped"
        self.events.append(Event("task_stopped", what, lambda: self.world.stop_task(arn, **said), self.world.now))

    def take_back(self, arn: str) -> None:
        """ECS wants a task's Spot capacity back, and says so: of every other one not before it has stopped."""
        self.say(f"task {arn[-4:]} is taken back")
        self.taken_back.add(arn)
        if int(arn[-1], 16) % 2:
            self._notice(arn)

    def _notice(self, arn: str) -> None:
        what = f"ECS: task {arn[-4:]} is taken back"
        self.events.append(Event("taken_back", what, lambda: self.world.take_back(arn), self.world.now))

    def start_task(self) -> None:
        """A task that ECS accepted comes up, or never does."""
        if not self.starting:
            return
        arn = self.starting.pop(self.random.randrange(len(self.starting)))
        if self.faults.chance(0.5) or (self.faults.broken_image and not self.faults.calm):
            self.say(f"task {arn[-4:]} never starts")
            self.world.tasks.end(arn, self.random.choice([NO_IMAGE, NO_IMAGE, SLOW_REGISTRY]))
            return
        self.world.tasks.come_up(arn, self.world.now)
        if self.faults.chance(0.2):
            self.say(f"task {arn[-4:]} runs, and its agent says nothing")
        else:
            self.start_agent(task=arn)
