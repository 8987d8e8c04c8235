"""A worker's side of the protocol: events and the time go in, actions come out. It does nothing by itself.

`now` is a monotonic clock's seconds, the same clock for every call.
"""

from collections.abc import Sequence
from random import Random

from longshore.domain import messages as m
from longshore.domain.states import Reason

from longshore_worker.actions import (
    Abandon,
    Action,
    AskGrants,
    Begin,
    EndPhase,
    Follow,
    Leave,
    Prepare,
    Publish,
    SetTimeouts,
    UseGrants,
)
from longshore_worker.errors import ExitCode
from longshore_worker.held import PREPARING_PAUSE, Held, Identity, PoolSettings
from longshore_worker.lease import Lease
from longshore_worker.letters import Letters
from longshore_worker.memory import Key, Memory
from longshore_worker.outbox import Outbox

GOODBYE_PATIENCE = 5.0
REPORT_PATIENCE = 60.0


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
        self.identity = identity
        self.pool = PoolSettings()
        self._remains = list(remains)
        self._stop_deadline = stop_deadline_seconds
        self._outbox = Outbox(random)
        self._memory = Memory()
        self._held: Held | None = None
        self._lease = Lease()
        self._letters = Letters(identity)
        self._leaving = False
        self._left = False
        self._exit_code = ExitCode.GOODBYE
        self._last_report = ""
        self._leave_by: float | None = None
        self._end_by: float | None = None
        self._actions: list[Action] = []

    # What happens to the worker. Each returns what is to be done about it.

    def connected(self, now: float) -> list[Action]:
        """A connection is up and subscribed."""
        self._lease.connected = True
        self._lease.reached(now)
        self._register(now)
        self._outbox.hurry(now)
        return self._flush(now)

    def disconnected(self, now: float, reached_at: float | None = None) -> list[Action]:
        """The connection is down; `reached_at` is when the broker was last certainly there."""
        self._lease.connected = False
        self._lease.reached(now if reached_at is None else reached_at)
        return self._flush(now)

    def received(self, message: m.AnyToAgent, now: float) -> list[Action]:
        """A message came."""
        self._lease.reached(now)
        if self._is_for_this_session(message):
            self._take(message, now)
        return self._flush(now)

    def store_answered(self, now: float) -> None:
        """The object store gave an answer, whatever it was."""
        self._lease.reached(now)

    def prepared(self, key: Key, now: float) -> list[Action]:
        """The preparation of an attempt has succeeded."""
        held = self._held
        if held and held.key == key and held.stage == "preparing":
            held.stage = "prepared"
            self._outbox.put("prepared", lambda: self._letters.prepared(key), now)
        return self._flush(now)

    def preparation_failed(self, key: Key, reason: Reason, note: str, now: float) -> list[Action]:
        """The preparation of an attempt has failed."""
        held = self._held
        if held and held.key == key and held.stage == "preparing":
            self._fail_preparation(held, reason, note, now)
        return self._flush(now)

    def phase_ended(self, key: Key, now: float) -> list[Action]:
        """The phase's processes are gone; its log is still on its way."""
        if self._held and self._held.key == key:
            self._held.stage = "finished"
        return self._flush(now)

    def report(self, key: Key, outcome: m.Outcome, log: m.LogDigest, now: float) -> list[Action]:
        """The phase has ended and its log is where it can get to: say so until it is answered."""
        held = self._held
        if held and held.key == key:
            held.stage = "finished"
            self._report(held, outcome, log, now)
        return self._flush(now)

    def grants_refused(self, key: Key, now: float) -> list[Action]:
        """The store answered 403: the grants are over before their time."""
        if self._held and self._held.key == key:
            self._held.renewal.refused(now)
        return self._flush(now)

    def uploads_failing(self, key: Key, since: float | None, now: float) -> list[Action]:
        """Uploads have failed since then, or work (again)."""
        if self._held and self._held.key == key:
            self._held.renewal.failing(since)
        return self._flush(now)

    def terminate(self, now: float) -> list[Action]:
        """The agent was asked to end; asked again, it hastens."""
        hasten, self._leaving = self._leaving, True
        held = self._held
        if held is None or held.stage == "finished":
            self._resend_report_as_leaving(now)
            if hasten:
                self._leave_by = now
        elif held.stage == "running":
            self._end_for_leaving(now, hasten=hasten)
        else:
            self._hand_back(held, now)
        return self._flush(now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed; call at `next_tick` at the latest."""
        return self._flush(now)

    def next_tick(self) -> float | None:
        """When `tick` has something to do, if nothing else happens; None means never."""
        if self._left:
            return None
        moments = [self._leave_by, self._end_by]
        if self._lease.connected:
            moments.append(self._outbox.next_at())
        if held := self._held:
            if held.has_begun and self._is_unreported(held):
                moments.append(held.renewal.at if self._lease.connected else None)
            if held.stage == "running":
                moments.append(self._lease.ends_at(self.pool.lease_seconds))
            if held.stage == "preparing":
                moments += [held.preparing_at, held.prepare_by]
        return min((at for at in moments if at is not None), default=None)

    # What can be asked about it.

    @property
    def holding(self) -> m.Holding | None:
        """The attempt in hand, as `registered` tells it."""
        return self._held.holding if self._held else None

    @property
    def remains_unreported(self) -> bool:
        """Whether the control plane still has to hear of what earlier agents left."""
        return bool(self._remains)

    @property
    def is_leaving(self) -> bool:
        """Whether the worker takes no more runs."""
        return self._leaving

    @property
    def has_left(self) -> bool:
        """Whether `Leave` was asked for."""
        return self._left

    # Messages.

    def _is_for_this_session(self, message: m.AnyToAgent) -> bool:
        if message.session is None:
            return isinstance(message, m.Who | m.Cycle | m.Drain)
        return message.session == self.identity.session

    def _take(self, message: m.AnyToAgent, now: float) -> None:
        match message:
            case m.Welcome():
                self._welcome(message, now)
            case m.Who():
                self._register(now)
            case m.Assign():
                self._assign(message, now)
            case m.Done():
                self._done(message)
            case m.Cycle():
                self._cycle(now)
            case m.Drain():
                return
            case _:
                self._take_about_run(message, now)

    def _take_about_run(
        self, message: m.Go | m.Refused | m.Stop | m.Kill | m.Extend | m.NewGrants | m.Watch, now: float
    ) -> None:
        key = (message.run, message.attempt)
        held = self._held if self._held and self._held.key == key else None
        if held is None:
            if isinstance(message, m.Go) and not self._memory.has_begun(key):
                # Else the run would stand as RUNNING with nobody behind it until its log timeout.
                self._give_back(key, now)
            return
        match message:
            case m.Go():
                self._go(held, now)
            case m.Refused():
                self._refused(held, now)
            case m.Stop():
                self._stop(held, message.reason, self.pool.stop_grace_seconds, now)
            case m.Kill():
                self._stop(held, message.reason, 0, now)
            case m.Extend():
                self._actions.append(SetTimeouts(message.log_timeout_seconds, message.run_timeout_seconds))
            case m.NewGrants():
                self._use_grants(held, message.grants, now)
            case m.Watch():
                self._actions.append(Follow(message.for_seconds))

    def _register(self, now: float) -> None:
        self._outbox.put("registered", self._registered, now)

    def _registered(self) -> m.Registered:
        return self._letters.registered(self.holding, self._remains[:100])

    def _welcome(self, welcome: m.Welcome, now: float) -> None:
        self.pool = PoolSettings(
            lease_seconds=welcome.lease_seconds,
            stop_grace_seconds=welcome.stop_grace_seconds,
            log_cap_bytes=welcome.log_cap_bytes,
        )
        self._outbox.first_pause = max(1.0, welcome.repeat_seconds)
        if self._outbox.drop("registered"):
            self._remains = self._remains[100:]
            if self._remains:
                self._register(now)

    def _assign(self, assign: m.Assign, now: float) -> None:
        key, held = (assign.run, assign.attempt), self._held
        if self._memory.has_begun(key):
            if report := self._memory.report(key):
                self._outbox.put(_report_name(key), lambda: report, now)
            return
        if self._memory.was_given_back(key) or self._leaving:
            self._give_back(key, now)
            return
        if held and held.key == key:
            self._outbox.hurry(now)
            return
        if held and (held.stage == "running" or (held.stage == "finished" and self._is_unreported(held))):
            self._register(now)
            return
        if held and held.assign.run == assign.run and held.assign.attempt > assign.attempt:
            return
        if held:
            self._drop(held)
        self._hold(assign, now)

    def _hold(self, assign: m.Assign, now: float) -> None:
        self._held = Held.offered(assign, now)
        self._actions.append(Prepare(assign))

    def _go(self, held: Held, now: float) -> None:
        if held.stage != "prepared" or self._memory.has_begun(held.key):
            return
        self._memory.begin(held.key)
        self._outbox.drop("prepared")
        # A worker is given `go` only after its last report is in the table.
        self._outbox.drop(self._last_report)
        held.stage = "running"
        self._actions.append(Begin(held.assign))

    def _refused(self, held: Held, now: float) -> None:
        if held.stage == "running":
            held.unwanted = True
            self._actions.append(EndPhase(Reason.KILLED, "the control plane refused this attempt", 0))
        elif held.stage == "finished":
            held.unwanted = True
            if self._outbox.drop(_report_name(held.key)):
                self._let_go(now)
        else:
            self._memory.give_back(held.key)
            self._drop(held)
            self._let_go(now)

    def _let_go(self, now: float) -> None:
        """Nothing is in hand after a refusal: whoever refused may think this worker away, and takes it in again."""
        self._held = None
        self._register(now)

    def _stop(self, held: Held, reason: Reason, grace: float, now: float) -> None:
        if held.stage == "running":
            self._actions.append(EndPhase(reason, f"ended by the control plane ({reason})", grace))
        elif held.stage != "finished":
            self._hand_back(held, now)

    def _use_grants(self, held: Held, grants: m.Grants, now: float) -> None:
        held.renewal.granted(grants.expires_in_seconds, now)
        self._actions.append(UseGrants(grants))

    def _done(self, done: m.Done) -> None:
        if done.event == "goodbye":
            if self._outbox.drop("goodbye"):
                self._leave()
            return
        if done.run is None or done.attempt is None:
            return
        key = (done.run, done.attempt)
        name = _report_name(key) if done.event == "phase_finished" else _hand_back_name(key)
        if self._outbox.drop(name) and self._held and self._held.key == key:
            self._held = None

    def _cycle(self, now: float) -> None:
        self._leaving = True
        self._exit_code = ExitCode.CYCLED
        held = self._held
        if held and held.stage == "running":
            self._actions.append(EndPhase(Reason.CYCLED, "the pool's workers were cycled", 0))
        elif held and held.stage != "finished":
            self._hand_back(held, now)

    # Giving back, failing, reporting.

    def _drop(self, held: Held) -> None:
        self._outbox.drop("prepared")
        if held.stage in ("preparing", "prepared"):
            self._actions.append(Abandon(*held.key))
        self._held = None

    def _hand_back(self, held: Held, now: float) -> None:
        self._drop(held)
        self._give_back(held.key, now)

    def _give_back(self, key: Key, now: float) -> None:
        self._memory.give_back(key)
        self._outbox.put(_hand_back_name(key), lambda: self._letters.handed_back(key, leaving=self._leaving), now)

    def _fail_preparation(self, held: Held, reason: Reason, note: str, now: float) -> None:
        self._actions.append(Abandon(*held.key))
        self._memory.begin(held.key)
        held.stage = "finished"
        outcome = m.Outcome(end="FAILED", reason=reason, note=note[:200])
        self._report(held, outcome, m.LogDigest(complete=False), now)

    def _report(self, held: Held, outcome: m.Outcome, log: m.LogDigest, now: float) -> None:
        def make() -> m.PhaseFinished:
            return self._letters.phase_finished(held.key, outcome, log, leaving=self._leaving)

        self._memory.keep_report(held.key, make())
        if held.unwanted:
            self._actions.append(Publish(make()))
            self._let_go(now)
            return
        self._last_report = _report_name(held.key)
        self._outbox.put(self._last_report, make, now)

    def _is_unreported(self, held: Held) -> bool:
        return _report_name(held.key) not in self._outbox

    # Leaving.

    def _end_for_leaving(self, now: float, *, hasten: bool) -> None:
        if hasten:
            self._end_by = None
            self._actions.append(EndPhase(Reason.INTERRUPTED, "the agent was told twice to end", 0))
        elif self._stop_deadline:
            self._end_by = now + self._stop_deadline
        else:
            self._end_interrupted()

    def _end_interrupted(self) -> None:
        self._end_by = None
        self._actions.append(EndPhase(Reason.INTERRUPTED, "the agent was told to end", self.pool.stop_grace_seconds))

    def _resend_report_as_leaving(self, now: float) -> None:
        if self._held and not self._is_unreported(self._held):
            self._outbox.hurry(now)

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self._actions.append(Leave(self._exit_code))

    def _say_goodbye(self, now: float) -> None:
        """Once nothing is in hand and everything is answered, say goodbye; without an answer, leave all the same."""
        if self._held is None and self._outbox.names <= {"registered"}:
            self._outbox.drop("registered")
            self._outbox.put("goodbye", self._letters.goodbye, now)
            self._leave_by = now + GOODBYE_PATIENCE if self._lease.connected else now
        elif self._leave_by is None and (self._held is None or self._held.stage == "finished"):
            patience = REPORT_PATIENCE if self._held else GOODBYE_PATIENCE
            self._leave_by = now + patience

    # Time.

    def _flush(self, now: float) -> list[Action]:
        if self._left:
            return self._taken()
        self._judge_preparation(now)
        self._judge_grants(now)
        self._judge_lease(now)
        if self._end_by is not None and now >= self._end_by:
            self._end_interrupted()
        if self._leaving:
            self._say_goodbye(now)
        if self._lease.connected:
            self._actions += map(Publish, self._outbox.due(now))
        if self._leave_by is not None and now >= self._leave_by:
            self._leave()
        return self._taken()

    def _taken(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def _judge_preparation(self, now: float) -> None:
        held = self._held
        if not held or held.stage != "preparing":
            return
        if now >= held.prepare_by:
            limit = held.assign.prepare_timeout_seconds
            self._fail_preparation(held, Reason.PREPARE_TIMEOUT, f"not prepared within {limit:g} s", now)
        elif now >= held.preparing_at:
            held.preparing_at = now + PREPARING_PAUSE
            if self._lease.connected:
                self._actions.append(Publish(self._letters.preparing(held.key)))

    def _judge_grants(self, now: float) -> None:
        held = self._held
        if not held or not held.has_begun or not self._is_unreported(held):
            return
        if self._lease.connected and now >= held.renewal.at:
            failing = held.renewal.ask(self._outbox.first_pause, now)
            self._actions.append(AskGrants(*held.key, failing=failing))

    def _judge_lease(self, now: float) -> None:
        ends_at = self._lease.ends_at(self.pool.lease_seconds)
        if ends_at is not None and now >= ends_at and self._held and self._held.stage == "running":
            lease = f"{self.pool.lease_seconds:g} s"
            self._actions.append(EndPhase(Reason.WORKER_LOST, f"reached nothing and nobody for {lease} (lease)", 0))
            self._lease.spend()


def _report_name(key: Key) -> str:
    return f"phase_finished {key[0]} {key[1]}"


def _hand_back_name(key: Key) -> str:
    return f"handed_back {key[0]} {key[1]}"
