"""An agent that answers as the real one does, as far as the control plane can tell; it does what tests say between."""

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from quaymaster.domain import ids, objects
from quaymaster.domain.messages import (
    Assign,
    Done,
    Executor,
    FromAgent,
    Go,
    Goodbye,
    HandedBack,
    Holding,
    ImageUsed,
    Kill,
    LogDigest,
    LogEnd,
    Outcome,
    Packed,
    PhaseFinished,
    Prepared,
    Refused,
    Registered,
    Remains,
    Stop,
    ToAgent,
    Welcome,
    Who,
)
from quaymaster.domain.states import Reason

from tests.shared.memory.world import NAMESPACE, World

type Attempt = tuple[str, int]
FINISHED = Outcome(end="FINISHED", exit_code=0)


def ended_for(reason: Reason) -> Outcome:
    """How a command ends that its agent ends for this reason."""
    end = "STOPPED" if reason is Reason.BY_USER else "FAILED"
    return Outcome(end=end, reason=reason, exit_code=-9)


@dataclass
class Held:
    """The attempt in hand."""

    run: str
    attempt: int
    stage: str
    phase: int = 0
    """The phase that runs, or is to begin, by its number in the run."""
    last: int = 0
    asked_for: int | None = None
    pack: bool = False

    @property
    def key(self) -> Attempt:
        return self.run, self.attempt


def write_end_marker(world: World, held: Held, digest: LogDigest, outcome: Outcome) -> None:
    """The attempt's log is complete in the bucket, if the bucket is there; what lies there already stays."""
    if world.blobs.down:
        return
    end = LogEnd(run=held.run, attempt=held.attempt, digest=digest, outcome=outcome)
    key = objects.log_end_key(world.pool.id, held.run, held.attempt)
    if key in world.blobs.objects:
        return
    world.blobs.write(key, end.model_dump_json(by_alias=True).encode())


def with_workspace(world: World, held: Held, outcome: Outcome) -> Outcome:
    """The outcome, and the workspace in the bucket, where an attempt that went well has to leave one."""
    if not held.pack or outcome.end != "FINISHED" or outcome.workspace:
        return outcome
    body = f"left by {held.key}".encode()
    world.blobs.write(objects.left_workspace_key(world.pool.id, held.run, held.attempt), body)
    packed = Packed(sha256=hashlib.sha256(body).hexdigest(), bytes=len(body))
    return outcome.model_copy(update={"workspace": packed})


@dataclass(kw_only=True)
class FakeAgent:
    """One session of one worker. `publish` is how its messages leave; `begun` is what its commands did.

    `prompt` prepares at once. What is not answered stays in `unanswered` until `repeat`.
    """

    worker_id: str
    session: str
    publish: Callable[[str, FromAgent], None]
    world: World
    launch: str | None = None
    prompt: bool = True
    log_timeout: float | None = None
    run_timeout: float | None = None
    executor: Executor = Executor.PROCESS
    image: ImageUsed | None = None
    """What it says that its attempts run in."""
    held: Held | None = None
    leaving: bool = False
    welcomed: bool = False
    begun: list[Attempt] = field(default_factory=list[Attempt])
    reports: dict[Attempt, PhaseFinished] = field(default_factory=dict[Attempt, PhaseFinished])
    given_back: set[Attempt] = field(default_factory=set[Attempt])
    unanswered: dict[str, tuple[str, Callable[[], FromAgent]]] = field(
        default_factory=dict[str, tuple[str, Callable[[], FromAgent]]]
    )
    heard: list[ToAgent] = field(default_factory=list[ToAgent])

    # What it does by itself.

    def register(self, *remains: Remains) -> None:
        """What every connection begins with."""
        self._say("registered", "registered", lambda: self._registered(*remains))

    def _registered(self, *remains: Remains) -> Registered:
        held = self.held
        return Registered.model_validate(
            {
                "session": self.session,
                "holding": held and Holding(run=held.run, attempt=held.attempt, stage=cast("Any", held.stage)),
                "remains": list(remains),
                "metadata": {"host": self.worker_id[-4:]},
                "launch": self.launch,
                "log_timeout_seconds": self.log_timeout,
                "run_timeout_seconds": self.run_timeout,
                "executor": self.executor,
            }
        )

    def prepare(self) -> None:
        """Its preparation has succeeded."""
        held = self.held
        assert held
        assert held.stage == "preparing"
        held.stage = "prepared"
        self._ask(held, held.phase)

    def _ask(self, held: Held, phase: int) -> None:
        self._say(
            "prepared",
            "prepared",
            lambda: Prepared(session=self.session, run=held.run, attempt=held.attempt, phase=phase, image=self.image),
        )

    def go_on(self) -> None:
        """Its phase has finished, and it asks for the next one of its attempt."""
        held = self.held
        assert held
        assert held.phase < held.last
        held.asked_for = held.phase + 1
        self._ask(held, held.asked_for)

    def write(self, *lines: str, sequence: int = 1) -> None:
        """Its phase says something, and a chunk of it is in the bucket."""
        held = self.held
        assert held
        name = objects.chunk_name(sequence)
        key = objects.chunk_prefix(self.world.pool.id, held.run, held.attempt) + name
        text = "".join(json.dumps({"stream": "output", "msg": line}) + "\n" for line in lines)
        self.world.blobs.write(key, gzip.compress(text.encode()))

    def finish(self, outcome: Outcome = FINISHED, *, marker: bool = True) -> None:
        """Its phase has ended; the log and its end marker are in the bucket, then it says so."""
        held = self.held
        assert held
        held.stage = "finished"
        self.unanswered.pop("prepared", None)
        outcome = with_workspace(self.world, held, outcome)
        digest = LogDigest(lines=1, bytes=2, sha256="a" * 64)
        if marker:
            write_end_marker(self.world, held, digest, outcome)
        report = PhaseFinished(
            session=self.session,
            run=held.run,
            attempt=held.attempt,
            outcome=outcome,
            log=digest,
            leaving=self.leaving,
        )
        self.reports[held.key] = report
        self._say(f"finished {held.key}", "phase_finished", lambda: report)

    def terminate(self) -> None:
        """SIGTERM: before `go` it hands back; with nothing in hand it says goodbye."""
        self.leaving = True
        if not self.held:
            self._say("goodbye", "goodbye", lambda: Goodbye(session=self.session))
        elif self.held.stage in ("preparing", "prepared"):
            self._hand_back(self.held.key)

    def repeat(self) -> None:
        """Say everything again that was not answered."""
        for event, make in list(self.unanswered.values()):
            self.publish(event, make())

    # What it is told.

    def take(self, messages: list[ToAgent]) -> None:
        """Messages came."""
        for message in messages:
            if message.session is None or message.session == self.session:
                self.heard.append(message)
                self._take(message)

    def _take(self, message: ToAgent) -> None:
        match message:
            case Who():
                self.register()
            case Welcome():
                self.welcomed = True
                self.unanswered.pop("registered", None)
            case Assign():
                self._assign(message)
            case Done():
                self._done(message)
            case Go() | Refused() | Kill() | Stop():
                self._about_run(message)
            case _:
                return

    def _assign(self, assign: Assign) -> None:
        key, held = (assign.run, assign.attempt), self.held
        if key in self.begun or key in self.reports:
            if report := self.reports.get(key):
                self._say(f"finished {key}", "phase_finished", lambda: report)
        elif key in self.given_back or self.leaving:
            self._hand_back(key)
        elif held and held.key == key:
            self.repeat()
        elif held and held.stage == "running":
            self.register()
        else:
            self.unanswered.pop("prepared", None)
            last = assign.first + max(0, len(assign.phases) - 1)
            self.held = Held(assign.run, assign.attempt, "preparing", assign.first, last, pack=assign.pack)
            if self.prompt:
                self.prepare()

    def _about_run(self, message: Go | Refused | Kill | Stop) -> None:
        key = (message.run, message.attempt)
        held = self.held if self.held and self.held.key == key else None
        match message:
            case Go() if held and held.stage == "prepared":
                held.stage = "running"
                held.phase = message.phase
                self.begun.append(key)
                self.unanswered.pop("prepared", None)
            case Go() if held and held.stage == "running" and message.phase == held.asked_for:
                held.phase, held.asked_for = message.phase, None
                self.unanswered.pop("prepared", None)
            case Go() if not held and key not in self.begun:
                self._hand_back(key)
            case Refused() if held:
                self.unanswered.pop("prepared", None)
                self.unanswered.pop(f"finished {key}", None)
                self.given_back.add(key)
                self.held = None
                self.register()
            case Kill() | Stop() if held and held.stage == "running":
                self.finish(ended_for(message.reason))
            case Kill() | Stop() if held and held.stage != "finished":
                self._hand_back(key)
            case _:
                return

    def _hand_back(self, key: Attempt) -> None:
        self.unanswered.pop("prepared", None)
        self.given_back.add(key)
        if self.held and self.held.key == key:
            self.held = None
        run, attempt = key
        self._say(
            f"back {key}",
            "handed_back",
            lambda: HandedBack(session=self.session, run=run, attempt=attempt, leaving=self.leaving),
        )

    def _done(self, done: Done) -> None:
        key = (done.run or "", done.attempt or 0)
        name = {"goodbye": "goodbye", "phase_finished": f"finished {key}", "handed_back": f"back {key}"}[done.event]
        self.unanswered.pop(name, None)
        if done.event == "phase_finished" and self.held and self.held.key == key:
            self.held = None

    def _say(self, name: str, event: str, make: Callable[[], FromAgent]) -> None:
        self.unanswered[name] = (event, make)
        self.publish(event, make())


def agent(world: World, name: str = "w1", session: int = 1, **fields: Any) -> FakeAgent:
    """An agent whose messages are delivered at once; it has not registered yet."""
    worker_id = ids.worker_id(NAMESPACE, world.pool.id, name.rjust(8, "0"))

    def publish(event: str, message: FromAgent) -> None:
        world.hear(worker_id, event, message)

    made = FakeAgent(
        worker_id=worker_id,
        session=f"session-{session:04}",
        publish=publish,
        world=world,
    )
    for field_name, value in fields.items():
        assert hasattr(made, field_name)
        setattr(made, field_name, value)
    return made


def settle_down(world: World, *agents: FakeAgent) -> None:
    """Deliver what lies with the broker until nobody says anything more; what nobody takes is gone."""
    for _ in range(100):
        if not world.messenger.sent:
            return
        for one in agents:
            one.take(world.messenger.take(one.worker_id))
        known = {one.worker_id for one in agents}
        world.messenger.sent = [sent for sent in world.messenger.sent if sent.worker_id in known]
    raise AssertionError("the agents and the control plane talk without an end")


def joined(world: World, *names: str, **fields: Any) -> list[FakeAgent]:
    """Agents that have registered."""
    made = [agent(world, name, **fields) for name in names]
    for one in made:
        one.register()
    settle_down(world, *made)
    return made


def unheard(event: str, message: FromAgent) -> None:
    """How the messages of an agent leave that nobody hears."""


def preparing(world: World, name: str = "w1", run: str = "r1", **fields: object) -> FakeAgent:
    """A worker that has been offered a run, and prepares it."""
    (one,) = joined(world, name, prompt=False)
    world.submit(run, **fields)
    settle_down(world, one)
    return one


def running(world: World, name: str = "w1", run: str = "r1", **fields: object) -> FakeAgent:
    """A worker whose run has begun."""
    one = preparing(world, name, run, **fields)
    one.prompt = True
    one.prepare()
    settle_down(world, one)
    assert one.held
    assert one.held.stage == "running"
    return one
