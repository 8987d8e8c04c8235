"""What a worker does about each message of the control plane."""

from quaymaster.domain import messages as m
from quaymaster.domain.states import Reason

from quaymaster_worker.protocol.actions import Begin, EndPhase, Follow, GoOn, Prepare, SetTimeouts, UseGrants
from quaymaster_worker.protocol.departure import Departure
from quaymaster_worker.protocol.reports import Reports
from quaymaster_worker.protocol.session import Session
from quaymaster_worker.protocol.state.held import Held, PoolSettings

AboutAttempt = m.Go | m.Refused | m.Stop | m.Kill | m.Extend | m.NewGrants | m.Watch


class Inbox:
    """Takes messages; those of another session are left alone."""

    def __init__(self, session: Session, reports: Reports, departure: Departure) -> None:
        self._session = session
        self._reports = reports
        self._departure = departure

    def take(self, message: m.AnyToAgent, now: float) -> None:
        """Do what a message asks."""
        if not self._is_for_this_session(message):
            return
        match message:
            case m.Welcome():
                self._welcome(message, now)
            case m.Unfit(note=note):
                self._departure.unfit(note)
            case m.Who():
                self._session.register(now)
            case m.Assign():
                self._assign(message, now)
            case m.Done():
                self._done(message)
            case m.Cycle():
                self._departure.cycle(now)
            case m.Drain():
                return
            case _:
                self._take_about_attempt(message, now)

    def _is_for_this_session(self, message: m.AnyToAgent) -> bool:
        if message.session is None:
            return isinstance(message, m.Who | m.Cycle | m.Drain)
        return message.session == self._session.identity.session

    def _take_about_attempt(self, message: AboutAttempt, now: float) -> None:
        key = (message.run, message.attempt)
        held = self._session.in_hand(key)
        if held is None:
            if isinstance(message, m.Go) and not self._session.memory.has_begun(key):
                # Else the run would stand as RUNNING with nobody behind it until its log timeout.
                self._reports.give_back(key, now)
            return
        match message:
            case m.Go():
                self._go(held, message, now)
            case m.Refused():
                self._refused(held, now)
            case m.Stop():
                self._stop(held, message, self._session.pool.stop_grace_seconds, now)
            case m.Kill():
                self._stop(held, message, 0, now)
            case m.Extend():
                self._extend_phase(held, message)
            case m.NewGrants():
                self._use_grants(held, message.grants, now)
            case m.Watch():
                self._session.ask(Follow(message.for_seconds))

    # About the worker.

    def _welcome(self, welcome: m.Welcome, now: float) -> None:
        self._session.pool = PoolSettings(
            lease_seconds=welcome.lease_seconds,
            stop_grace_seconds=welcome.stop_grace_seconds,
            log_cap_bytes=welcome.log_cap_bytes,
            workspace_cap_bytes=welcome.workspace_cap_bytes,
        )
        self._session.outbox.first_pause = max(1.0, welcome.repeat_seconds)
        self._session.welcomed(now)

    def _done(self, done: m.Done) -> None:
        if done.event == "goodbye":
            self._departure.answered()
        elif done.run is not None and done.attempt is not None:
            self._reports.answered((done.run, done.attempt), done.event)

    # About an attempt.

    def _assign(self, assign: m.Assign, now: float) -> None:
        session, key, held = self._session, (assign.run, assign.attempt), self._session.held
        if session.memory.has_begun(key):
            self._reports.repeat(key, now)
        elif session.memory.was_given_back(key) or session.leaving:
            self._reports.give_back(key, now)
        elif session.in_hand(key):
            session.outbox.hurry(now)
        elif held and self._is_busy_with(held):
            session.register(now)
        elif not held or not _is_older(assign, held):
            self._hold(assign, now)

    def _is_busy_with(self, held: Held) -> bool:
        return held.stage == "running" or (held.stage == "finished" and not self._reports.is_waiting(held))

    def _hold(self, assign: m.Assign, now: float) -> None:
        if self._session.held:
            self._session.drop(self._session.held)
        self._session.held = Held.offered(assign, now)
        self._session.ask(Prepare(assign))

    def _go(self, held: Held, go: m.Go, now: float) -> None:
        session = self._session
        if held.stage == "running" and held.asked_for == go.phase:
            self._go_on(held, go, now)
            return
        if go.log_timeout_seconds and go.run_timeout_seconds and go.phase == held.phase:
            self._extend(held, go.log_timeout_seconds, go.run_timeout_seconds, "")
        if held.stage != "prepared" or session.memory.has_begun(held.key):
            return
        session.memory.begin(held.key)
        session.outbox.drop("prepared")
        # A worker is given `go` only after its last report is in the table.
        self._reports.withdraw_last()
        held.stage = "running"
        held.telling.told(now)
        session.ask(Begin(held.assign))

    def _go_on(self, held: Held, go: m.Go, now: float) -> None:
        order = held.assign.phases[go.phase - held.assign.first]
        log_seconds = go.log_timeout_seconds or order.log_timeout_seconds
        run_seconds = go.run_timeout_seconds or order.run_timeout_seconds
        held.go_on(log_seconds, run_seconds, now)
        self._session.outbox.drop("prepared")
        self._session.ask(GoOn(log_seconds, run_seconds))

    def _refused(self, held: Held, now: float) -> None:
        if held.stage == "running":
            held.unwanted = True
            self._session.ask(EndPhase(Reason.KILLED, "the control plane refused this attempt", 0))
        elif held.stage == "finished":
            held.unwanted = True
            if self._reports.withdraw(held):
                self._reports.let_go(now)
        else:
            self._session.memory.give_back(held.key)
            self._session.drop(held)
            self._reports.let_go(now)

    def _extend_phase(self, held: Held, message: m.Extend) -> None:
        if message.phase == held.phase:
            self._extend(held, message.log_timeout_seconds, message.run_timeout_seconds, message.note or "")

    def _extend(self, held: Held, log_seconds: float, run_seconds: float, note: str) -> None:
        """Also before `go`, which it may overtake. Timeouts only grow: an older or a repeated word changes nothing."""
        before = held.assign
        log_seconds = max(before.log_timeout_seconds, log_seconds)
        run_seconds = max(before.run_timeout_seconds, run_seconds)
        if (before.log_timeout_seconds, before.run_timeout_seconds) == (log_seconds, run_seconds):
            return
        timeouts = {"log_timeout_seconds": log_seconds, "run_timeout_seconds": run_seconds}
        held.assign = before.model_copy(update=timeouts)
        held.telling.extend(log_seconds)
        self._session.ask(SetTimeouts(log_seconds, run_seconds, note))

    def _stop(self, held: Held, message: m.Stop | m.Kill, grace: float, now: float) -> None:
        if held.stage == "running":
            note = message.note or f"ended by the control plane ({message.reason})"
            self._session.ask(EndPhase(message.reason, note, grace))
        elif held.stage != "finished":
            self._reports.hand_back(held, now)

    def _use_grants(self, held: Held, grants: m.Grants, now: float) -> None:
        held.renewal.granted(grants.expires_in_seconds, now)
        self._session.ask(UseGrants(grants))


def _is_older(assign: m.Assign, held: Held) -> bool:
    return assign.run == held.assign.run and assign.attempt < held.assign.attempt
