"""What the parts of a worker's session share: its state, and the actions gathered for the answer to one event."""

from collections.abc import Sequence
from random import Random

from quaymaster.domain import messages as m

from quaymaster_worker.protocol.actions import Abandon, Action, Publish
from quaymaster_worker.protocol.letters import Letters
from quaymaster_worker.protocol.outbox import Outbox
from quaymaster_worker.protocol.state.held import Held, Identity, PoolSettings
from quaymaster_worker.protocol.state.lease import Lease
from quaymaster_worker.protocol.state.memory import Key, Memory

REMAINS_AT_ONCE = 100


class Session:
    """One worker's state, and the few moves that more than one part makes."""

    def __init__(self, identity: Identity, random: Random, remains: Sequence[m.Remains]) -> None:
        self.identity = identity
        self.pool = PoolSettings()
        self.remains = list(remains)
        self.letters = Letters(identity)
        self.outbox = Outbox(random)
        self.memory = Memory()
        self.lease = Lease()
        self.held: Held | None = None
        self.leaving = False
        self._actions: list[Action] = []

    def ask(self, action: Action) -> None:
        """Have something done."""
        self._actions.append(action)

    def take_actions(self) -> list[Action]:
        """Everything asked for since the last call."""
        actions, self._actions = self._actions, []
        return actions

    def in_hand(self, key: Key) -> Held | None:
        """The attempt in hand, if it is this one."""
        return self.held if self.held and self.held.key == key else None

    def drop(self, held: Held) -> None:
        """Hold it no more, and undo what was prepared for it."""
        self.outbox.drop("prepared")
        if not held.has_begun:
            self.ask(Abandon(*held.key))
        self.held = None

    def register(self, now: float) -> None:
        """Say who this is and what it holds, until `welcome` comes."""
        self.outbox.put("registered", self._registered, now)

    def welcomed(self, now: float) -> None:
        """The control plane has read `registered`; earlier agents' remains that did not fit follow."""
        if self.outbox.drop("registered"):
            self.remains = self.remains[REMAINS_AT_ONCE:]
            if self.remains:
                self.register(now)

    def send_due(self, now: float) -> None:
        """Publish what is to be sent or repeated by now."""
        if self.lease.connected:
            for message in self.outbox.due(now):
                self.ask(Publish(message))

    def _registered(self) -> m.Registered:
        holding = self.held.holding if self.held else None
        return self.letters.registered(holding, self.remains[:REMAINS_AT_ONCE])
