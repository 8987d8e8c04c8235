"""The control plane as a lab plays it: hears what agents say, and answers each time as the real one does."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from quaymaster.domain import messages as m
from quaymaster.domain.messages import ToAgent

type Send = Callable[[str, ToAgent], None]
"""Publish a message to a worker."""


@dataclass(frozen=True)
class Heard:
    """One message of an agent."""

    worker: str
    event: str
    message: m.FromAgent


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What `welcome` tells an agent."""

    lease: float = 180
    grace: float = 1
    cap: int = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A run as it is offered to one worker. `held_back`: its `prepared` has no answer until the test gives one.

    `grants` makes the new ones that answer `renew`; without it they are the test's to give.
    """

    assign: m.Assign
    held_back: bool = False
    grants: Callable[[], m.Grants] | None = None
    over: bool = False


@dataclass
class ControlPlane:
    """Keeps every message that agents send; a thread of its own may wait for one.

    Whoever cuts a line loses answers, but never for good: what an agent repeats is answered again, and one that
    registers again while its run has not begun gets it once more.
    """

    send: Send
    _heard: list[Heard] = field(default_factory=list[Heard])
    _news: threading.Condition = field(default_factory=threading.Condition)
    _terms: dict[str, Terms] = field(default_factory=dict[str, Terms])
    _offers: dict[str, Offer] = field(default_factory=dict[str, Offer])
    _failed: Exception | None = None

    def hear(self, topic: str, payload: bytes) -> None:
        """A message came: it is answered, and kept."""
        *_, worker, event = topic.split("/")
        try:
            message = m.read_from_agent(event, payload)
            self._answer(worker, message)
            with self._news:
                self._heard.append(Heard(worker, event, message))
                self._news.notify_all()
        except Exception as error:  # told to whoever waits: this thread must hear on
            with self._news:
                self._failed = error
                self._news.notify_all()

    def wait[T: m.FromAgent](
        self, kind: type[T], where: Callable[[T], bool] = lambda _: True, *, after: int = 0, seconds: float = 60
    ) -> tuple[str, T]:
        """The first message of a kind, from the `after`-th message on. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                if self._failed:
                    raise AssertionError("the lab's control plane failed") from self._failed
                for heard in self._heard[after:]:
                    if isinstance(heard.message, kind) and where(heard.message):
                        return heard.worker, heard.message
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no {kind.__name__} in {[h.event for h in self._heard[after:]]}")
                self._news.wait(left)

    @property
    def count(self) -> int:
        """How many messages came so far."""
        return len(self._heard)

    def agree(self, worker: str, session: str, terms: Terms) -> None:
        """Tell an agent other terms than the usual, now and whenever it registers."""
        self._terms[worker] = terms
        self._welcome(worker, session)

    def offer(self, worker: str, offer: Offer) -> None:
        """Offer a run to a worker."""
        self._offers[worker] = offer
        self.send(worker, offer.assign)

    def _answer(self, worker: str, message: m.FromAgent) -> None:
        match message:
            case m.Registered():
                self._welcome(worker, message.session)
                offer = self._offers.get(worker)
                if offer and not offer.over and not message.holding and offer.assign.session == message.session:
                    self.send(worker, offer.assign)
            case m.Prepared():
                self._answer_prepared(worker, message)
            case m.Renew():
                offer = self._offers.get(worker)
                if offer and offer.grants and offer.assign.run == message.run:
                    self.send(worker, self._about(m.NewGrants, message, grants=offer.grants()))
            case m.PhaseFinished():
                self._let_go(worker, message, "phase_finished")
            case m.HandedBack():
                self._let_go(worker, message, "handed_back")
            case m.Goodbye():
                self.send(worker, m.Done(session=message.session, event="goodbye"))
            case _:
                pass  # `preparing` has no answer

    def _welcome(self, worker: str, session: str) -> None:
        terms = self._terms.get(worker, Terms())
        self.send(
            worker,
            m.Welcome(
                session=session,
                lease_seconds=terms.lease,
                stop_grace_seconds=terms.grace,
                log_cap_bytes=terms.cap,
            ),
        )

    def _answer_prepared(self, worker: str, message: m.Prepared) -> None:
        offer = self._offers.get(worker)
        if not offer or offer.over or (offer.assign.run, offer.assign.attempt) != (message.run, message.attempt):
            self.send(worker, self._about(m.Refused, message))
        elif not offer.held_back:
            self.send(worker, self._about(m.Go, message))

    def _let_go(self, worker: str, message: m.PhaseFinished | m.HandedBack, event: str) -> None:
        offer = self._offers.get(worker)
        if offer and offer.assign.run == message.run:
            self._offers[worker] = replace(offer, over=True)
        self.send(worker, self._about(m.Done, message, event=event))

    @staticmethod
    def _about[T: ToAgent](
        kind: type[T], message: m.Prepared | m.Renew | m.PhaseFinished | m.HandedBack, **more: object
    ) -> T:
        fields = {"session": message.session, "run": message.run, "attempt": message.attempt, **more}
        return kind.model_validate(fields)
