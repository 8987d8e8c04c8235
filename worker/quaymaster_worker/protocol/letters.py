"""The messages of one worker, each with its session."""

from collections.abc import Sequence

from quaymaster.domain import messages as m

from quaymaster_worker.protocol.state.held import Identity
from quaymaster_worker.protocol.state.memory import Key


class Letters:
    """Writes messages; sends none."""

    def __init__(self, identity: Identity) -> None:
        self._me = identity

    def registered(self, holding: m.Holding | None, remains: Sequence[m.Remains]) -> m.Registered:
        """First message of every connection."""
        me = self._me
        return m.Registered(
            session=me.session,
            holding=holding,
            remains=list(remains),
            metadata=dict(me.metadata),
            agent_version=me.agent_version,
            launch=me.launch,
            log_timeout_seconds=me.log_timeout_seconds,
            run_timeout_seconds=me.run_timeout_seconds,
            executor=me.executor,
        )

    def preparing(self, key: Key) -> m.Preparing:
        """A slow preparation goes on."""
        return m.Preparing(session=self._me.session, run=key[0], attempt=key[1])

    def prepared(self, key: Key, phase: int, image: m.ImageUsed | None = None) -> m.Prepared:
        """Ready to begin this phase."""
        return m.Prepared(session=self._me.session, run=key[0], attempt=key[1], phase=phase, image=image)

    def handed_back(self, key: Key, *, leaving: bool) -> m.HandedBack:
        """The attempt never began here."""
        return m.HandedBack(session=self._me.session, run=key[0], attempt=key[1], leaving=leaving)

    def phase_finished(self, key: Key, outcome: m.Outcome, log: m.LogDigest, *, leaving: bool) -> m.PhaseFinished:
        """The phase has ended."""
        run, attempt = key
        session = self._me.session
        return m.PhaseFinished(session=session, run=run, attempt=attempt, outcome=outcome, log=log, leaving=leaving)

    def goodbye(self) -> m.Goodbye:
        """Last message of a worker."""
        return m.Goodbye(session=self._me.session)
