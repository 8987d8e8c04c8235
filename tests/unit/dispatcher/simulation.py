"""Histories by chance: messages lost, doubled, late and reordered; functions, agents and tasks killed at any moment.

After every step the invariants are checked; when the faults are over, everything must come to its end.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from longshore.adapters.memory_messenger import Sent
from longshore.adapters.weakness import NoWeakness, SeededWeakness
from longshore.domain import ids
from longshore.domain.messages import FromAgent, Outcome, Remains
from longshore.domain.pool import PoolKind
from longshore.domain.run import Run
from longshore.domain.states import Reason, RunState
from longshore.domain.worker import WorkerState
from longshore.errors import LongshoreError
from longshore_worker.held import Identity

from tests.unit.dispatcher.agents import FINISHED, Attempt, FakeAgent
from tests.unit.dispatcher.invariants import check
from tests.unit.dispatcher.real_agent import RealAgent
from tests.unit.dispatcher.world import NAMESPACE, Crash, World

DELIVERIES = 3
"""How often an event is delivered whose handling fails, as Lambda does."""
DEEPEST = 3
"""So many handlers run at once."""


@dataclass
class InFlight:
    """Something on its way to the control plane: delivering it calls a handler."""

    what: str
    deliver: Callable[[], None]
    left: int = DELIVERIES
    loses: bool = True


@dataclass
class Site:
    """An agent with the machine it runs on; `doubted` if the broker has said that it lost its connection."""

    agent: FakeAgent | RealAgent
    alive: bool = True
    task: str | None = None
    doubted: bool = False


@dataclass(kw_only=True)
class Simulation:
    """One history. `faults` is the probability of each kind of trouble, per occasion.

    `real`: with the agent's own state machine, instead of one that is simple enough to be believed.
    """

    seed: int
    kind: PoolKind = PoolKind.PRIVATE
    faults: float = 0.06
    real: bool = False
    trace: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.world = World(self.kind, seed=self.seed, max_workers=3, runs_per_worker=2, offers=50, losses=40)
        self.sites: list[Site] = []
        self.inbound: list[InFlight] = []
        self.outbound: list[tuple[datetime, Sent]] = []
        self.ended: dict[str, tuple[RunState, Reason | None]] = {}
        self.accepted: set[str] = set()
        self.finished_well: set[str] = set()
        self.names = 0
        self.depth = 0
        if self.kind is PoolKind.PRIVATE:
            for _ in range(2):
                self.start_agent()

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    # The stage.

    def start_agent(
        self, task: str | None = None, remains: Sequence[Remains] = (), worker_id: str | None = None
    ) -> None:
        """An agent process starts and registers."""
        self.names += 1
        name = ids.task_id(task) if task else f"{self.names:08}"
        launch = self.world.tasks.tasks[task].launch_id if task else None
        worker_id = worker_id or ids.worker_id(NAMESPACE, self.world.pool.id, name)

        def publish(event: str, message: FromAgent) -> None:
            body, at = message.encode(), self.world.now
            self.inbound.append(
                InFlight(f"{event} of {worker_id[-4:]}", lambda: self.world.hear(worker_id, event, body, at))
            )

        session = f"session-{self.names:04}"
        if self.real:
            identity = Identity(worker_id=worker_id, session=session, agent_version="1", launch=launch)
            real = RealAgent(self.world, identity, publish, remains)
            self.sites.append(Site(real, task=task))
            real.register()
        else:
            fake = FakeAgent(
                worker_id=worker_id,
                session=session,
                publish=publish,
                world=self.world,
                launch=launch,
                prompt=False,
            )
            self.sites.append(Site(fake, task=task))
            fake.register(*remains)

    def submit(self) -> None:
        """A request comes into the queue."""
        name = f"r{len(self.accepted)}"
        self.accepted.add(name)
        body = json.dumps(
            {
                "schema": 1,
                "id": name,
                "pool": self.world.pool.name,
                "command": ["true"],
                "retryable": self.chance(0.2),
                "type": self.random.choice(["task", "proposed", "tracked"]),
                "log_timeout": "4m",
                "run_timeout": self.random.choice(["2m", "70m"]),
            }
        )
        self.queue(body)

    def queue(self, body: str) -> None:
        def deliver() -> None:
            if self.world.request(body):
                raise LongshoreError("comes again")

        # A queue loses nothing, and brings a message until it is acknowledged.
        self.inbound.append(InFlight(f"request {body[:60]}", deliver, left=1_000_000, loses=False))

    # Steps.

    def step(self) -> None:
        """One thing happens."""
        self.collect()
        actions = [self.deliver, self.deliver, self.deliver, self.hand_out, self.hand_out, self.act, self.act]
        actions += [self.repeat, self.pass_time]
        if len(self.accepted) < 8:
            actions.append(self.submit)
        if self.faults:
            actions += [self.trouble] if self.chance(self.faults * 4) else []
        self.random.choice(actions)()
        self.collect()
        self.inspect()

    def collect(self) -> None:
        """What the control plane published, rang or started is on its way."""
        self.outbound += [(self.world.now, sent) for sent in self.world.messenger.sent]
        self.world.messenger.sent.clear()
        for body in self.world.queue.take():
            self.queue(body)
        self.world.queue.refused.clear()
        self.follow_tasks()
        for site in self.sites:
            if site.alive and isinstance(site.agent, RealAgent) and site.agent.left:
                self.say(f"{site.agent.worker_id[-4:]} leaves")
                if site.task:
                    self.world.tasks.end(site.task, "its agent ended")
                self.kill(site)

    def follow_tasks(self) -> None:
        by_task = {site.task: site for site in self.sites if site.task}
        for arn, task in list(self.world.tasks.tasks.items()):
            site = by_task.get(arn)
            if task.stopped is None and not site:
                self.start_agent(task=arn)
            elif task.stopped and site and site.alive:
                self.kill(site)

    def deliver(self) -> None:
        if not self.inbound:
            return
        one = self.inbound.pop(self.random.randrange(len(self.inbound)))
        if self.chance(self.faults) and one.loses:
            self.say(f"lost: {one.what}")
            return
        if self.chance(self.faults):
            self.inbound.append(one)
        self.say(f"deliver {one.what}")
        if not self.handled(one.deliver) and one.left > 1:
            one.left -= 1
            self.inbound.append(one)

    def handled(self, what: Callable[[], object]) -> bool:
        """Run a handler; whether it came through. Between any two of its calls it may be killed, or others may run."""
        crash_at = self.random.randint(1, 12) if self.chance(self.faults * 2) else 0
        calls = 0

        def between(name: str) -> None:
            nonlocal calls
            calls += 1
            if calls == crash_at:
                self.say(f"  crash before {name}")
                raise Crash
            if self.depth < DEEPEST and self.chance(self.faults * 2):
                self.say(f"  meanwhile, before {name}:")
                self.interleave()

        hook, self.depth = self.world.store.before, self.depth + 1
        self.world.store.before = self.world.messenger.before = between
        try:
            what()
        except (Crash, LongshoreError) as error:
            self.say(f"  {type(error).__name__} {error}")
            return False
        finally:
            self.world.store.before = self.world.messenger.before = hook
            self.depth -= 1
        return True

    def interleave(self) -> None:
        """Others have their turn."""
        for _ in range(self.random.randint(1, 4)):
            self.collect()
            self.random.choice([self.deliver, self.deliver, self.hand_out, self.act])()
        self.say("  and on")

    def hand_out(self) -> None:
        """The broker delivers a message to a worker, if it is there and the message has not expired."""
        if not self.outbound:
            return
        number = self.random.randrange(len(self.outbound))
        at, sent = self.outbound[number]
        if not self.chance(self.faults):
            self.outbound.pop(number)
        if self.chance(self.faults) or (sent.expires and self.world.now > at + sent.expires):
            return
        for site in self.sites:
            if site.alive and site.agent.worker_id == sent.worker_id:
                self.say(f"{sent.worker_id[-4:]} gets {type(sent.message).__name__}")
                site.agent.take([sent.message])

    def act(self) -> None:
        """An agent gets on with what it has in hand."""
        if self.sites:
            self.get_on(self.random.choice(self.sites))

    def get_on(self, site: Site) -> None:
        held = site.agent.held
        if not site.alive or not held:
            return
        if held.stage == "preparing":
            site.agent.prepare()
        elif held.stage == "running":
            self.finish(site.agent)

    def finish(self, agent: FakeAgent | RealAgent) -> None:
        held = agent.held
        assert held
        run = self.world.table.run(held.run)
        well = self.chance(0.7)
        if well and run and run.state is RunState.RUNNING and run.attempt == held.attempt:
            self.finished_well.add(run.id)
        self.say(f"{agent.worker_id[-4:]} finishes {held.run[-4:]}/{held.attempt}")
        agent.finish(FINISHED if well else Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=1))

    def repeat(self) -> None:
        for site in self.sites:
            if site.alive:
                site.agent.repeat()

    def pass_time(self) -> None:
        seconds = self.random.choice([1, 5, 20, 61])
        before = self.world.now
        self.world.wait(seconds)
        if before.minute != self.world.now.minute:
            self.say("sweep")
            self.handled(self.world.sweep)

    def trouble(self) -> None:
        """Something dies, or only seems to."""
        living = [site for site in self.sites if site.alive]
        if not living:
            return
        site = self.random.choice(living)
        match self.random.randrange(4):
            case 0:
                self.say(f"kill {site.agent.worker_id[-4:]}")
                self.die(site)
            case 1:
                self.say(f"terminate {site.agent.worker_id[-4:]}")
                site.agent.terminate()
            case 2:
                self.say(f"{site.agent.worker_id[-4:]} seems to be disconnected")
                self.presence(site)
            case _:
                self.say(f"{site.agent.worker_id[-4:]} reconnects")
                site.agent.register()

    def die(self, site: Site) -> None:
        """SIGKILL. A private host starts another agent, which knows what the one before left."""
        if site.task:
            self.world.tasks.end(site.task, "killed")
            self.kill(site)
            return
        held = site.agent.held
        self.kill(site)
        if self.chance(0.3):
            self.start_agent(worker_id=site.agent.worker_id)
            return
        remains: list[Remains] = []
        if held and self.chance(0.5):
            remains = [Remains(worker_id=site.agent.worker_id, run=held.run, attempt=held.attempt)]
        self.start_agent(remains=remains)

    def kill(self, site: Site) -> None:
        site.alive = False
        self.presence(site)
        if site.task:
            arn = site.task
            self.inbound.append(InFlight(f"stopped {arn[-4:]}", lambda: self.world.stop_task(arn)))

    def presence(self, site: Site) -> None:
        worker_id, at = site.agent.worker_id, self.world.now
        site.doubted = True
        self.inbound.append(InFlight(f"disconnected {worker_id[-4:]}", lambda: self.world.disconnect(worker_id, at)))

    # What must hold.

    def inspect(self) -> None:
        check(self.world)
        begun: list[Attempt] = [attempt for site in self.sites for attempt in site.agent.begun]
        assert len(begun) == len(set(begun)), f"an attempt began twice: {begun}"
        runs = [record for record in self.world.table.records() if isinstance(record, Run)]
        for run in runs:
            if not run.retryable:
                assert sum(name == run.id for name, _ in begun) <= 1, f"run {run.id} began twice"
            if run.is_final:
                told = self.ended.setdefault(run.id, (run.state, run.reason))
                assert told == (run.state, run.reason), f"run {run.id} ended twice"
        for site in self.sites:
            if site.alive and not site.doubted:
                self.inspect_command(site.agent)

    def inspect_command(self, agent: FakeAgent | RealAgent) -> None:
        """While a command acts, its run is RUNNING; only one that was told to end may have been given up on."""
        held = agent.held
        if not held or held.stage != "running":
            return
        run = self.world.table.run(held.run)
        assert run
        told_to_end = run.reason in (Reason.RUN_TIMEOUT, Reason.LOG_TIMEOUT)
        assert told_to_end or (run.state, run.worker, run.attempt) == (
            RunState.RUNNING,
            agent.worker_id,
            held.attempt,
        ), f"run {run.id} is {run.state} for {run.reason} while its command acts"

    def say(self, line: str) -> None:
        self.trace.append(f"{self.world.now:%H:%M:%S} {line}")

    # A whole history.

    def play(self, steps: int) -> None:
        """Faults first, then a quiet time in which everything must end."""
        if self.faults:
            weak = self.faults / 3
            self.world.table.weakness = SeededWeakness(
                random=self.random, busy=weak, failed=weak, unanswered=weak, max_lag=3
            )
        for _ in range(steps):
            self.step()
        self.faults = 0
        self.world.table.weakness = NoWeakness()
        self.come_to_rest()
        self.inspect_the_end()

    def come_to_rest(self) -> None:
        if self.kind is PoolKind.PRIVATE:
            self.start_agent()
        for _ in range(40):
            self.exhaust()
            if all(self.world.run(name).is_final for name in self.accepted) and self.is_whole():
                return
            self.repeat()
            self.world.wait(30)
            self.say("quiet sweep")
            self.handled(self.world.sweep)
            self.inspect()

    def exhaust(self) -> None:
        """Deliver everything, and let the agents do all that they have in hand."""
        for _ in range(60):
            self.collect()
            if not self.inbound and not self.outbound:
                return
            while self.inbound:
                self.deliver()
                self.inspect()
            while self.outbound:
                self.hand_out()
            for site in self.sites:
                self.get_on(site)
        raise AssertionError("the agents and the control plane talk without an end")

    def is_whole(self) -> bool:
        """Whether every agent that lives and stays is offered work again."""
        living = [site.agent.worker_id for site in self.sites if site.alive and not site.agent.leaving]
        found = [self.world.table.worker(self.world.pool.id, worker_id) for worker_id in living]
        return all(worker and worker.state in (WorkerState.IDLE, WorkerState.LEAVING) for worker in found)

    def inspect_the_end(self) -> None:
        states = {name: self.world.run(name).state for name in sorted(self.accepted)}
        assert all(self.world.run(name).is_final for name in self.accepted), f"not everything ended: {states}"
        assert self.world.table.tickets(self.world.pool.id, 9) == []
        assert self.is_whole(), "a worker that lives is never offered work again"
        failures = [str(fields["note"]) for event, fields in self.world.logged if event == "not_reaped"]
        assert all(note.startswith(("Lost", "Busy", "Unavailable")) for note in failures), failures
        for run_id in self.finished_well:
            run = self.world.table.run(run_id)
            assert run
            assert run.state is RunState.FINISHED, f"run {run_id} ended well and is recorded as {run.reason}"
        if self.kind is PoolKind.FARGATE:
            self.world.sweep(after=timedelta(hours=2).total_seconds())
            for _ in range(30):
                self.world.sweep(after=60)
            assert self.world.reserved() == len(self.world.tasks.running) == 0
