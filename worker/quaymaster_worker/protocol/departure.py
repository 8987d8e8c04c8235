"""How a worker leaves: what it holds is ended or handed back, answered, and then it says goodbye."""

import logging

from quaymaster.domain.states import Reason

from quaymaster_worker.errors import ExitCode
from quaymaster_worker.protocol.actions import EndPhase, Leave
from quaymaster_worker.protocol.reports import Reports
from quaymaster_worker.protocol.session import Session
from quaymaster_worker.protocol.state.held import Held

GOODBYE_PATIENCE = 5.0
"""Seconds to wait for the answer to `goodbye`."""
HAND_BACK_PATIENCE = 20.0
"""Seconds to wait for the answers to hand-backs: a run that is not handed back counts as lost, and waits for long."""
REPORT_PATIENCE = 60.0
"""Seconds to wait for the answer to the report of a finished phase."""


log = logging.getLogger("quaymaster.agent")


class Departure:
    """From being told to leave until `Leave`; does nothing before."""

    def __init__(self, session: Session, reports: Reports, stop_deadline_seconds: float) -> None:
        self._session = session
        self._reports = reports
        self._stop_deadline = stop_deadline_seconds
        self._exit_code = ExitCode.GOODBYE
        self._end_by: float | None = None
        self._leave_by: float | None = None
        self.has_left = False

    def terminate(self, now: float) -> None:
        """The agent was asked to end; asked again, it hastens."""
        hasten, self._session.leaving = self._session.leaving, True
        held = self._session.held
        if held is None or held.stage == "finished":
            self._resend_report_as_leaving(held, now)
            if hasten:
                self._leave_by = now
        elif held.stage == "running":
            self._end_phase(now, hasten=hasten)
        else:
            self._reports.hand_back(held, now)

    def cycle(self, now: float) -> None:
        """The pool asks its workers to start again."""
        self._session.leaving = True
        self._exit_code = ExitCode.CYCLED
        held = self._session.held
        if held and held.stage == "running":
            self._session.ask(EndPhase(Reason.CYCLED, "the pool's workers were cycled", 0))
        elif held and held.stage != "finished":
            self._reports.hand_back(held, now)

    def unfit(self, note: str) -> None:
        """The pool takes no such agent: nothing was given to it, and nothing is said."""
        self._session.leaving = True
        self._exit_code = ExitCode.CONFIGURATION_REFUSED
        log.error("the pool refuses this agent", extra={"error": note})
        self._leave()

    def set_aside(self) -> None:
        """The host is not free of the attempt in hand."""
        self._session.leaving = True
        self._exit_code = ExitCode.NOT_ENDED

    def answered(self) -> None:
        """The control plane has the goodbye."""
        if self._session.outbox.drop("goodbye"):
            self._leave()

    def go_on(self, now: float) -> None:
        """End the phase when its time is up; once nothing is in hand, say goodbye."""
        if self._end_by is not None and now >= self._end_by:
            self._interrupt_phase()
        if self._session.leaving:
            self._say_goodbye(now)

    def leave_if_due(self, now: float) -> None:
        """Without an answer, leave all the same."""
        if self._leave_by is not None and now >= self._leave_by:
            self._leave()

    def moments(self) -> list[float | None]:
        """When `go_on` or `leave_if_due` has something to do."""
        return [self._end_by, self._leave_by]

    def _resend_report_as_leaving(self, held: Held | None, now: float) -> None:
        if held and self._reports.is_waiting(held):
            self._session.outbox.hurry(now)

    def _end_phase(self, now: float, *, hasten: bool) -> None:
        if hasten:
            self._end_by = None
            self._session.ask(EndPhase(Reason.INTERRUPTED, "the agent was told twice to end", 0))
        elif self._stop_deadline:
            self._end_by = now + self._stop_deadline
        else:
            self._interrupt_phase()

    def _interrupt_phase(self) -> None:
        self._end_by = None
        grace = self._session.pool.stop_grace_seconds
        self._session.ask(EndPhase(Reason.INTERRUPTED, "the agent was told to end", grace))

    def _say_goodbye(self, now: float) -> None:
        session, held = self._session, self._session.held
        if held is None and session.outbox.names <= {"registered"}:
            session.outbox.drop("registered")
            session.outbox.put("goodbye", session.letters.goodbye, now)
            self._leave_by = now + GOODBYE_PATIENCE if session.lease.connected else now
        elif self._leave_by is None and (held is None or held.stage == "finished"):
            self._leave_by = now + (REPORT_PATIENCE if held else HAND_BACK_PATIENCE)

    def _leave(self) -> None:
        if not self.has_left:
            self.has_left = True
            self._session.ask(Leave(self._exit_code))
