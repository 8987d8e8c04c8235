"""A worker's side of the protocol: events and the time go in, actions come out. It does nothing by itself.

`now` is a monotonic clock's seconds, the same clock for every call.

    Worker        events in, actions out
    ├── Inbox         what each message of the control plane does
    ├── Departure     leaving, up to the goodbye
    ├── Deadlines     what the time alone does
    ├── Reports       how attempts are accounted for
    └── Session       the state that all of them share
"""

from collections.abc import Sequence
from random import Random

from quaymaster.domain import messages as m
from quaymaster.domain.states import Reason

from quaymaster_worker.protocol.actions import Action
from quaymaster_worker.protocol.deadlines import Deadlines
from quaymaster_worker.protocol.departure import Departure
from quaymaster_worker.protocol.inbox import Inbox
from quaymaster_worker.protocol.reports import Reports
from quaymaster_worker.protocol.session import Session
from quaymaster_worker.protocol.state.held import Identity, PoolSettings
from quaymaster_worker.protocol.state.memory import Key


class Worker:
    """The session of one worker, from its first `registered` to its `goodbye`."""

    def __init__(
        self,
        identity: Identity,
        random: Random,
        *,
        remains: Sequence[m.Remains] = (),
        stop_deadline_seconds: float = 0,
    ) -> None:
        self._session = Session(identity, random, remains)
        self._reports = Reports(self._session)
        self._departure = Departure(self._session, self._reports, stop_deadline_seconds)
        self._deadlines = Deadlines(self._session, self._reports)
        self._inbox = Inbox(self._session, self._reports, self._departure)

    # What happens to the worker. Each returns what is to be done about it.

    def connected(self, now: float) -> list[Action]:
        """A connection is up and subscribed."""
        self._session.lease.connected = True
        self._session.lease.reached(now)
        self._session.register(now)
        self._session.outbox.hurry(now)
        return self._advance(now)

    def disconnected(self, now: float, reached_at: float | None = None) -> list[Action]:
        """The connection is down; `reached_at` is when the broker was last certainly there."""
        self._session.lease.connected = False
        self._session.lease.reached(now if reached_at is None else reached_at)
        return self._advance(now)

    def received(self, message: m.AnyToAgent, now: float) -> list[Action]:
        """A message came."""
        self._session.lease.reached(now)
        self._inbox.take(message, now)
        return self._advance(now)

    def stored(self, at: float) -> None:
        """An upload that was sent then is in the store, where the control plane sees it."""
        self._session.lease.reached(at)
        if self._session.held:
            self._session.held.telling.told(at)

    def prepared(self, key: Key, now: float, image: m.ImageUsed | None = None) -> list[Action]:
        """The preparation of an attempt has succeeded; `image` is what its commands run in."""
        session, held = self._session, self._session.in_hand(key)
        if held and held.stage == "preparing":
            held.stage = "prepared"
            session.outbox.put("prepared", lambda: session.letters.prepared(key, held.phase, image), now)
        return self._advance(now)

    def phase_done(self, key: Key, now: float) -> list[Action]:
        """A phase has finished, and another of the attempt is to follow: ask for it until there is an answer."""
        session, held = self._session, self._session.in_hand(key)
        if held and held.stage == "running" and held.asked_for is None:
            following = held.asked_for = held.phase + 1
            session.outbox.put("prepared", lambda: session.letters.prepared(key, following), now)
        return self._advance(now)

    def preparation_failed(
        self, key: Key, reason: Reason, note: str, now: float, log: m.LogDigest | None = None
    ) -> list[Action]:
        """The preparation of an attempt has failed; `log` is what it has told meanwhile."""
        held = self._session.in_hand(key)
        if held and held.stage == "preparing":
            self._reports.fail_preparation(held, reason, note, now, log)
        return self._advance(now)

    def phase_ended(self, key: Key, now: float) -> list[Action]:
        """The last phase's processes are gone; its log is still on its way."""
        if held := self._session.in_hand(key):
            held.stage = "finished"
            if held.asked_for is not None:
                held.asked_for = None
                self._session.outbox.drop("prepared")
        return self._advance(now)

    def report(self, key: Key, outcome: m.Outcome, log: m.LogDigest, now: float) -> list[Action]:
        """The phase has ended and its log is where it can get to: say so until it is answered."""
        if held := self._session.in_hand(key):
            self._reports.finish(held, outcome, log, now)
        return self._advance(now)

    def grants_refused(self, key: Key, now: float) -> list[Action]:
        """The store answered 403: the grants are over before their time."""
        if held := self._session.in_hand(key):
            held.renewal.refused(now)
        return self._advance(now)

    def uploads_failing(self, key: Key, since: float | None, now: float) -> list[Action]:
        """Uploads have failed since then, or work (again)."""
        if held := self._session.in_hand(key):
            held.renewal.failing(since)
        return self._advance(now)

    def terminate(self, now: float) -> list[Action]:
        """The agent was asked to end; asked again, it hastens."""
        self._departure.terminate(now)
        return self._advance(now)

    def set_aside(self, now: float) -> list[Action]:
        """Processes of the attempt in hand cannot be ended: report it, take nothing more, and leave."""
        self._departure.set_aside()
        return self._advance(now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed; call at `next_tick` at the latest."""
        return self._advance(now)

    def next_tick(self) -> float | None:
        """When `tick` has something to do, if nothing else happens; None means never."""
        if self.has_left:
            return None
        moments = self._departure.moments() + self._deadlines.moments()
        if self._session.lease.connected:
            moments.append(self._session.outbox.next_at())
        return min((at for at in moments if at is not None), default=None)

    def _advance(self, now: float) -> list[Action]:
        if not self.has_left:
            self._deadlines.judge(now)
            self._departure.go_on(now)
            # The goodbye is sent before the patience with its answer can end.
            self._session.send_due(now)
            self._departure.leave_if_due(now)
        return self._session.take_actions()

    # What can be asked about it.

    @property
    def identity(self) -> Identity:
        """Who the worker is."""
        return self._session.identity

    @property
    def pool(self) -> PoolSettings:
        """What the newest `welcome` said."""
        return self._session.pool

    @property
    def holding(self) -> m.Holding | None:
        """The attempt in hand, as `registered` tells it."""
        return self._session.held.holding if self._session.held else None

    @property
    def remains_unreported(self) -> bool:
        """Whether the control plane still has to hear of what earlier agents left."""
        return bool(self._session.remains)

    @property
    def is_leaving(self) -> bool:
        """Whether the worker takes no more runs."""
        return self._session.leaving

    @property
    def has_left(self) -> bool:
        """Whether `Leave` was asked for."""
        return self._departure.has_left
