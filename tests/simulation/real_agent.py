"""The agent's own state machine in the place of `FakeAgent`: what it is asked to do is done at once, and in memory."""

from collections.abc import Callable, Sequence
from random import Random

from quaymaster.domain.messages import (
    EVENTS,
    Assign,
    FromAgent,
    LogDigest,
    Outcome,
    Remains,
    Renew,
    ToAgent,
    read_to_agent,
)
from quaymaster_worker.protocol.actions import Action, AskGrants, Begin, EndPhase, GoOn, Leave, Publish
from quaymaster_worker.protocol.state.held import Identity
from quaymaster_worker.protocol.worker import Worker

from tests.shared.memory.agents import FINISHED, Attempt, Held, ended_for, with_workspace, write_end_marker
from tests.shared.memory.world import World

EVENT_OF = {kind: event for event, kind in EVENTS.items()}


class RealAgent:
    """One session of one worker, with what `FakeAgent` has."""

    def __init__(
        self, world: World, identity: Identity, publish: Callable[[str, FromAgent], None], remains: Sequence[Remains]
    ) -> None:
        self.worker_id = identity.worker_id
        self.begun: list[Attempt] = []
        self._assign: Assign | None = None
        self._phase = 0
        self._asked_for: int | None = None
        self.left = False
        self._world = world
        self.session = identity.session
        self._publish = publish
        self._worker = Worker(identity, Random(identity.worker_id), remains=remains)

    @property
    def held(self) -> Held | None:
        holding = self._worker.holding
        if not holding:
            return None
        held = Held(holding.run, holding.attempt, holding.stage)
        if (assign := self._assign) and (assign.run, assign.attempt) == held.key:
            held.phase, held.asked_for, held.pack = self._phase, self._asked_for, assign.pack
            held.last = assign.first + max(0, len(assign.phases) - 1)
        return held

    @property
    def leaving(self) -> bool:
        return self._worker.is_leaving

    def register(self) -> None:
        """It connects, or connects again."""
        self._do(self._worker.disconnected(self._now()))
        self._do(self._worker.connected(self._now()))

    def lose_connection(self) -> None:
        """It reaches the broker no more, and knows it."""
        self._do(self._worker.disconnected(self._now()))

    def take(self, messages: list[ToAgent]) -> None:
        for message in messages:
            self._do(self._worker.received(read_to_agent(message.encode()), self._now()))

    def stored(self, at: float) -> None:
        """An upload that was sent then is in the store."""
        self._worker.stored(at)

    def prepare(self) -> None:
        if self.held:
            self._do(self._worker.prepared(self.held.key, self._now()))

    def go_on(self) -> None:
        """Its phase has finished, and it asks for the next one of its attempt."""
        held = self.held
        assert held
        self._asked_for = held.phase + 1
        self._do(self._worker.phase_done(held.key, self._now()))

    def finish(self, outcome: Outcome = FINISHED, *, marker: bool = True) -> None:
        held = self.held
        assert held
        outcome = with_workspace(self._world, held, outcome)
        digest = LogDigest(lines=1, bytes=2, sha256="a" * 64)
        self._do(self._worker.phase_ended(held.key, self._now()))
        if marker:
            write_end_marker(self._world, held, digest, outcome)
        self._do(self._worker.report(held.key, outcome, digest, self._now()))

    def terminate(self) -> None:
        self._do(self._worker.terminate(self._now()))

    def repeat(self) -> None:
        self._do(self._worker.tick(self._now()))

    def _now(self) -> float:
        return self._world.now.timestamp()

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Publish(message):
                    self._publish(EVENT_OF[type(message)], message)
                case Begin(assign):
                    self._assign, self._phase, self._asked_for = assign, assign.first, None
                    self.begun.append((assign.run, assign.attempt))
                case GoOn():
                    self._phase, self._asked_for = self._phase + 1, None
                case EndPhase(reason):
                    self.finish(ended_for(reason))
                case AskGrants(run, attempt):
                    self._publish("renew", Renew(session=self.session, run=run, attempt=attempt, quiet_seconds=0))
                case Leave():
                    self.left = True
                case _:
                    continue
