"""What the time alone makes of the attempt in hand: a preparation too long, grants too old, a lease run out."""

from quaymaster.domain.states import Reason

from quaymaster_worker.protocol.actions import AskGrants, EndPhase, Publish, TellOutput
from quaymaster_worker.protocol.reports import Reports
from quaymaster_worker.protocol.session import Session
from quaymaster_worker.protocol.state.held import PREPARING_PAUSE, Held


class Deadlines:
    """Each is judged by `judge`, and tells by `moments` when it wants to be."""

    def __init__(self, session: Session, reports: Reports) -> None:
        self._session = session
        self._reports = reports

    def judge(self, now: float) -> None:
        """Do what is due by now."""
        self._judge_preparation(now)
        self._judge_grants(now)
        self._judge_lease(now)
        self._judge_output(now)

    def moments(self) -> list[float | None]:
        """When `judge` has something to do."""
        held = self._session.held
        if held is None:
            return []
        if held.stage == "preparing":
            return [held.preparing_at, held.prepare_by]
        moments: list[float | None] = []
        if self._may_ask_grants(held):
            moments.append(held.renewal.at)
        if held.stage == "running":
            moments.append(self._lease_end)
            if self._session.lease.connected:
                moments.append(held.telling.at)
        return moments

    def _judge_preparation(self, now: float) -> None:
        held = self._session.held
        if not held or held.stage != "preparing":
            return
        if now >= held.prepare_by:
            limit = held.assign.prepare_timeout_seconds
            self._reports.fail_preparation(held, Reason.PREPARE_TIMEOUT, f"not prepared within {limit:g} s", now)
        elif now >= held.preparing_at:
            held.preparing_at = now + PREPARING_PAUSE
            if self._session.lease.connected:
                self._session.ask(Publish(self._session.letters.preparing(held.key)))

    def _judge_grants(self, now: float) -> None:
        held = self._session.held
        if held and self._may_ask_grants(held) and now >= held.renewal.at:
            failing = held.renewal.ask(self._session.outbox.first_pause, now)
            self._session.ask(AskGrants(*held.key, failing=failing))

    def _may_ask_grants(self, held: Held) -> bool:
        return held.has_begun and not self._reports.is_waiting(held) and self._session.lease.connected

    def _judge_output(self, now: float) -> None:
        held = self._session.held
        if held and held.stage == "running" and self._session.lease.connected and now >= held.telling.at:
            failing = held.renewal.is_failing(now)
            self._session.ask(TellOutput(*held.key, since=held.telling.tell(now), failing=failing))

    def _judge_lease(self, now: float) -> None:
        held, ends_at = self._session.held, self._lease_end
        if ends_at is not None and now >= ends_at and held and held.stage == "running":
            lease = f"{self._session.pool.lease_seconds:g} s"
            self._session.ask(EndPhase(Reason.WORKER_LOST, f"reached nothing and nobody for {lease} (lease)", 0))
            self._session.lease.spend()

    @property
    def _lease_end(self) -> float | None:
        return self._session.lease.ends_at(self._session.pool.lease_seconds)
