"""How a worker accounts for its attempts: each is reported or handed back, repeatedly, until that is answered."""

from quaymaster.domain import messages as m
from quaymaster.domain.states import Reason

from quaymaster_worker.protocol.actions import Abandon, Publish
from quaymaster_worker.protocol.session import Session
from quaymaster_worker.protocol.state.held import Held
from quaymaster_worker.protocol.state.memory import Key

LONGEST_NOTE = 200


class Reports:
    """Ends of attempts that the control plane has to hear of."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last = ""

    def hand_back(self, held: Held, now: float) -> None:
        """Give up the attempt in hand before it begins."""
        self._session.drop(held)
        self.give_back(held.key, now)

    def give_back(self, key: Key, now: float) -> None:
        """Say that an attempt never began here, and never will."""
        session = self._session
        session.memory.give_back(key)
        session.outbox.put(_hand_back_name(key), lambda: session.letters.handed_back(key, leaving=session.leaving), now)

    def fail_preparation(
        self, held: Held, reason: Reason, note: str, now: float, log: m.LogDigest | None = None
    ) -> None:
        """Report an attempt that failed before it began."""
        self._session.ask(Abandon(*held.key))
        self._session.memory.begin(held.key)
        outcome = m.Outcome(end="FAILED", reason=reason, note=note[:LONGEST_NOTE])
        self.finish(held, outcome, log or m.LogDigest(complete=False), now)

    def finish(self, held: Held, outcome: m.Outcome, log: m.LogDigest, now: float) -> None:
        """Report how the attempt in hand ended; once only, if it is unwanted."""
        session = self._session

        def make() -> m.PhaseFinished:
            return session.letters.phase_finished(held.key, outcome, log, leaving=session.leaving)

        held.stage = "finished"
        session.memory.keep_report(held.key, make())
        if held.unwanted:
            session.ask(Publish(make()))
            self.let_go(now)
            return
        self._last = _report_name(held.key)
        session.outbox.put(self._last, make, now)

    def repeat(self, key: Key, now: float) -> None:
        """Report once more how an attempt ended, if it has."""
        if report := self._session.memory.report(key):
            self._session.outbox.put(_report_name(key), lambda: report, now)

    def let_go(self, now: float) -> None:
        """Nothing is in hand after a refusal: whoever refused may think this worker away, and takes it in again."""
        self._session.held = None
        self._session.register(now)

    def is_waiting(self, held: Held) -> bool:
        """Whether the attempt's report is on its way and not answered."""
        return _report_name(held.key) in self._session.outbox

    def withdraw(self, held: Held) -> bool:
        """Repeat the attempt's report no more; says whether it was on its way."""
        return self._session.outbox.drop(_report_name(held.key))

    def withdraw_last(self) -> None:
        """Repeat the newest report no more."""
        self._session.outbox.drop(self._last)

    def answered(self, key: Key, event: str) -> None:
        """The control plane has the report or the hand-back, and the worker's hand is free."""
        name = _report_name(key) if event == "phase_finished" else _hand_back_name(key)
        if self._session.outbox.drop(name) and self._session.in_hand(key):
            self._session.held = None


def _report_name(key: Key) -> str:
    return f"phase_finished {key[0]} {key[1]}"


def _hand_back_name(key: Key) -> str:
    return f"handed_back {key[0]} {key[1]}"
