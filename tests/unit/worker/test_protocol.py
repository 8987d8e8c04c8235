"""The worker's session: messages and time in, actions out; no broker, no clock, no processes."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quaymaster.domain import messages as m
from quaymaster.domain.states import Reason
from quaymaster_worker.errors import ExitCode
from quaymaster_worker.protocol.actions import (
    Abandon,
    Action,
    AskGrants,
    Begin,
    EndPhase,
    Follow,
    GoOn,
    Leave,
    Prepare,
    Publish,
    SetTimeouts,
    TellOutput,
)
from quaymaster_worker.protocol.state.held import Identity
from quaymaster_worker.protocol.worker import Worker

SESSION = "session-1"
GRANTS = m.Grants(
    chunks=m.PostGrant(url="http://s3/", fields={}, key_prefix="chunks/p/r/000001/", max_bytes=10),
    log=m.PutGrant(url="http://s3/log"),
    log_end=m.PutGrant(url="http://s3/end"),
    expires_in_seconds=1800,
)
FINISHED = m.Outcome(end="FINISHED", exit_code=0)


def assignment(run: str = "R1", attempt: int = 1, session: str = SESSION) -> m.Assign:
    return m.Assign(
        session=session,
        run=run,
        attempt=attempt,
        type="task",
        phase="perform",
        command=["true"],
        log_timeout_seconds=420,
        run_timeout_seconds=4200,
        prepare_timeout_seconds=600,
        warning_seconds=60,
        grants=GRANTS,
    )


def go(run: str = "R1", attempt: int = 1, session: str = SESSION) -> m.Go:
    return m.Go(session=session, run=run, attempt=attempt)


def welcome(lease: float = 180) -> m.Welcome:
    return m.Welcome(session=SESSION, lease_seconds=lease, stop_grace_seconds=20, log_cap_bytes=1 << 30)


def make(remains: Sequence[m.Remains] = (), stop_deadline: float = 0) -> Worker:
    identity = Identity(worker_id="ns.P.W", session=SESSION, agent_version="1", metadata={"host": "a"}, launch="L")
    return Worker(identity, Random(1), remains=remains, stop_deadline_seconds=stop_deadline)


def welcomed(stop_deadline: float = 0) -> Worker:
    worker = make(stop_deadline=stop_deadline)
    worker.connected(0)
    worker.received(welcome(), 0)
    return worker


def running(stop_deadline: float = 0) -> Worker:
    worker = welcomed(stop_deadline)
    worker.received(assignment(), 1)
    worker.prepared(("R1", 1), 2)
    assert any(isinstance(action, Begin) for action in worker.received(go(), 3))
    return worker


def sent(actions: Sequence[Action]) -> list[m.FromAgent]:
    return [action.message for action in actions if isinstance(action, Publish)]


def kinds(actions: Sequence[Action]) -> list[str]:
    return [type(message).__name__ for message in sent(actions)]


def until(worker: Worker, end: float) -> list[Action]:
    """All actions up to a moment, driven by nothing but the worker's own wish to be called."""
    actions: list[Action] = []
    at = worker.next_tick()
    while at is not None and at <= end:
        actions += worker.tick(at)
        following = worker.next_tick()
        assert following is None or following > at, "a tick must make progress"
        at = following
    return actions


def test_a_connection_begins_with_registered_and_what_the_agent_is() -> None:
    (message,) = sent(make().connected(0))
    assert message == m.Registered(session=SESSION, metadata={"host": "a"}, agent_version="1", launch="L")


def test_registered_is_repeated_with_growing_pauses_until_welcome() -> None:
    worker = make()
    worker.connected(0)
    assert 4 <= len(sent(until(worker, 60))) <= 9
    worker.received(welcome(), 61)
    assert until(worker, 10_000) == []
    assert worker.next_tick() is None


def test_each_reconnection_registers_again_with_what_is_held() -> None:
    worker = running()
    worker.disconnected(10)
    registered = next(message for message in sent(worker.connected(20)) if isinstance(message, m.Registered))
    assert registered.holding == m.Holding(run="R1", attempt=1, stage="running")


def test_nothing_is_sent_while_disconnected() -> None:
    worker = make()
    worker.connected(0)
    worker.disconnected(1)
    assert sent(until(worker, 100)) == []


def test_who_without_a_session_is_answered_at_once() -> None:
    assert kinds(welcomed().received(m.Who(), 5)) == ["Registered"]


@pytest.mark.parametrize("session", [None, "another"])
def test_an_assignment_of_another_session_is_ignored(session: str | None) -> None:
    message = assignment().model_copy(update={"session": session})
    assert welcomed().received(message, 1) == []


def test_prepared_is_repeated_until_go_and_the_phase_begins_exactly_once() -> None:
    worker = welcomed()
    assert worker.received(assignment(), 1) == [Prepare(assignment())]
    assert kinds(worker.prepared(("R1", 1), 2)) == ["Prepared"]
    assert "Prepared" in kinds(until(worker, 20))
    assert worker.received(go(), 21) == [Begin(assignment())]
    assert worker.received(go(), 22) == []
    assert "Prepared" not in kinds(until(worker, 300))


def test_go_before_the_preparation_is_done_begins_nothing() -> None:
    worker = welcomed()
    worker.received(assignment(), 1)
    assert worker.received(go(), 2) == []


def test_go_for_an_attempt_that_is_not_held_is_handed_back() -> None:
    assert kinds(welcomed().received(go("R9"), 1)) == ["HandedBack"]


def test_a_newer_assignment_replaces_one_without_go() -> None:
    worker = welcomed()
    worker.received(assignment("R1"), 1)
    assert worker.received(assignment("R2"), 2) == [Abandon("R1", 1), Prepare(assignment("R2"))]
    assert worker.prepared(("R1", 1), 3) == []


def test_an_older_attempt_of_the_same_run_replaces_nothing() -> None:
    worker = welcomed()
    worker.received(assignment("R1", 2), 1)
    assert worker.received(assignment("R1", 1), 2) == []
    assert worker.holding == m.Holding(run="R1", attempt=2, stage="preparing")


def test_an_assignment_beside_a_running_phase_changes_nothing_and_says_what_is_held() -> None:
    worker = running()
    actions = worker.received(assignment("R2"), 4)
    assert kinds(actions) == ["Registered"]
    assert not any(isinstance(action, Prepare | Abandon) for action in actions)


def test_a_slow_preparation_says_so_every_five_seconds_and_ends_at_its_deadline() -> None:
    worker = welcomed()
    worker.received(assignment(), 0)
    assert kinds(until(worker, 26)).count("Preparing") == 5
    finished = [message for message in sent(until(worker, 601)) if isinstance(message, m.PhaseFinished)]
    assert finished[0].outcome.reason is Reason.PREPARE_TIMEOUT


def test_a_failed_preparation_is_reported_and_leaves_the_worker_free() -> None:
    worker = welcomed()
    worker.received(assignment(), 1)
    actions = worker.preparation_failed(("R1", 1), Reason.WORKSPACE, "no such object", 2)
    (report,) = sent(actions)
    assert isinstance(report, m.PhaseFinished)
    assert (report.outcome.end, report.outcome.reason) == ("FAILED", Reason.WORKSPACE)
    worker.received(m.Done(session=SESSION, event="phase_finished", run="R1", attempt=1), 3)
    assert worker.holding is None


def test_the_report_is_repeated_until_done() -> None:
    worker = running()
    worker.phase_ended(("R1", 1), 10)
    assert kinds(worker.report(("R1", 1), FINISHED, m.LogDigest(), 11)) == ["PhaseFinished"]
    assert "PhaseFinished" in kinds(until(worker, 30))
    worker.received(m.Done(session=SESSION, event="phase_finished", run="R1", attempt=1), 31)
    assert (worker.holding, worker.next_tick()) == (None, None)


def test_a_repeated_assignment_of_a_begun_attempt_is_answered_with_the_last_report() -> None:
    worker = running()
    worker.report(("R1", 1), FINISHED, m.LogDigest(), 11)
    worker.received(m.Done(session=SESSION, event="phase_finished", run="R1", attempt=1), 12)
    actions = worker.received(assignment(), 13)
    (report,) = sent(actions)
    assert isinstance(report, m.PhaseFinished)
    assert report.outcome == FINISHED
    assert worker.received(go(), 14) == []


def test_the_next_assignment_may_come_instead_of_done() -> None:
    worker = running()
    worker.report(("R1", 1), FINISHED, m.LogDigest(), 11)
    assert Prepare(assignment("R2")) in worker.received(assignment("R2"), 12)
    worker.prepared(("R2", 1), 13)
    worker.received(go("R2"), 14)
    assert "PhaseFinished" not in kinds(until(worker, 100))


def test_a_refused_attempt_is_dropped_and_not_prepared_again() -> None:
    worker = welcomed()
    worker.received(assignment(), 1)
    worker.prepared(("R1", 1), 2)
    abandon, publish = worker.received(m.Refused(session=SESSION, run="R1", attempt=1), 3)
    assert abandon == Abandon("R1", 1)
    assert kinds([publish]) == ["Registered"]
    assert worker.holding is None
    assert not any(isinstance(action, Prepare) for action in worker.received(assignment(), 4))


def test_a_running_attempt_that_is_refused_is_killed_and_reported_once() -> None:
    worker = running()
    (end,) = worker.received(m.Refused(session=SESSION, run="R1", attempt=1), 4)
    assert isinstance(end, EndPhase)
    assert end.grace_seconds == 0
    assert kinds(worker.report(("R1", 1), FINISHED, m.LogDigest(), 5)) == ["PhaseFinished", "Registered"]
    assert worker.holding is None
    worker.received(welcome(), 6)
    assert until(worker, 1000) == []


def test_stop_ends_with_grace_and_kill_without() -> None:
    worker = running()
    (stop,) = worker.received(m.Stop(session=SESSION, run="R1", attempt=1, reason=Reason.BY_USER), 4)
    (kill,) = worker.received(m.Kill(session=SESSION, run="R1", attempt=1, reason=Reason.RUN_TIMEOUT), 5)
    assert isinstance(stop, EndPhase)
    assert isinstance(kill, EndPhase)
    assert (stop.reason, stop.grace_seconds) == (Reason.BY_USER, 20)
    assert (kill.reason, kill.grace_seconds) == (Reason.RUN_TIMEOUT, 0)


def test_messages_about_another_attempt_change_nothing() -> None:
    worker = running()
    assert worker.received(m.Kill(session=SESSION, run="R1", attempt=2, reason=Reason.KILLED), 4) == []
    assert worker.received(m.Refused(session=SESSION, run="R2", attempt=1), 5) == []


def test_watch_is_passed_on() -> None:
    assert running().received(m.Watch(session=SESSION, run="R1", attempt=1, for_seconds=60), 4) == [Follow(60)]


def test_grants_are_renewed_at_half_their_life_until_they_come() -> None:
    worker = running()
    before = until(worker, 900)
    assert not any(isinstance(action, AskGrants) for action in before)
    asked = [action for action in until(worker, 920) if isinstance(action, AskGrants)]
    assert len(asked) >= 2
    assert asked[0] == AskGrants("R1", 1, failing=False)
    worker.received(m.NewGrants(session=SESSION, run="R1", attempt=1, grants=GRANTS), 921)
    assert not any(isinstance(action, AskGrants) for action in until(worker, 1800))


def test_a_refused_upload_asks_for_grants_at_once() -> None:
    assert running().grants_refused(("R1", 1), 10) == [AskGrants("R1", 1, failing=False)]


def test_failing_uploads_are_told_after_twenty_seconds_and_every_twenty() -> None:
    worker = running()
    worker.uploads_failing(("R1", 1), 10, 10)
    asked = [action for action in until(worker, 95) if isinstance(action, AskGrants)]
    assert asked == [AskGrants("R1", 1, failing=True)] * 4


def test_the_lease_kills_only_when_neither_broker_nor_store_was_reached() -> None:
    worker = running()
    worker.disconnected(100)
    worker.stored(200)
    assert worker.tick(379) == []
    (end,) = [action for action in until(worker, 10_000) if isinstance(action, EndPhase)]
    assert (end.reason, end.grace_seconds) == (Reason.WORKER_LOST, 0)


def test_the_lease_counts_from_when_the_broker_was_last_certainly_there() -> None:
    worker = running()
    worker.disconnected(140, reached_at=100)
    assert worker.tick(279) == []
    assert [type(action) for action in worker.tick(280)] == [EndPhase]


def test_a_connected_worker_keeps_its_lease() -> None:
    assert not any(isinstance(action, EndPhase) for action in until(running(), 800))


def test_sigterm_when_idle_says_goodbye_and_leaves_when_answered() -> None:
    worker = welcomed()
    assert kinds(worker.terminate(10)) == ["Goodbye"]
    assert worker.received(m.Done(session=SESSION, event="goodbye"), 11) == [Leave(ExitCode.GOODBYE)]


def test_a_worker_whose_run_could_not_be_ended_reports_it_and_leaves() -> None:
    worker = running()
    worker.set_aside(10)
    worker.phase_ended(("R1", 1), 10)
    (report,) = sent(worker.report(("R1", 1), FINISHED, m.LogDigest(), 11))
    assert isinstance(report, m.PhaseFinished)
    assert report.leaving, "it is given nothing more"
    said = worker.received(m.Done(session=SESSION, event="phase_finished", run="R1", attempt=1), 12)
    assert kinds(said) == ["Goodbye"]
    assert worker.received(m.Done(session=SESSION, event="goodbye"), 13) == [Leave(ExitCode.NOT_ENDED)]


def test_an_unanswered_goodbye_does_not_keep_the_agent() -> None:
    worker = welcomed()
    worker.terminate(10)
    assert Leave(ExitCode.GOODBYE) in until(worker, 16)


def test_sigterm_without_a_connection_leaves_at_once() -> None:
    assert make().terminate(0) == [Leave(ExitCode.GOODBYE)]


def test_sigterm_before_go_hands_back_as_leaving_and_takes_no_more() -> None:
    worker = welcomed()
    worker.received(assignment(), 1)
    (back,) = sent(worker.terminate(2))
    assert back == m.HandedBack(session=SESSION, run="R1", attempt=1, leaving=True)
    assert not any(isinstance(action, Prepare) for action in worker.received(assignment("R2"), 3))
    done = [m.Done(session=SESSION, event="handed_back", run=run, attempt=1) for run in ("R1", "R2")]
    assert kinds([action for message in done for action in worker.received(message, 4)]) == ["Goodbye"]


def test_sigterm_while_running_interrupts_and_reports_as_leaving() -> None:
    worker = running()
    (end,) = worker.terminate(10)
    assert isinstance(end, EndPhase)
    assert (end.reason, end.grace_seconds) == (Reason.INTERRUPTED, 20)
    worker.phase_ended(("R1", 1), 11)
    (report,) = sent(worker.report(("R1", 1), m.Outcome(end="FAILED", reason=Reason.INTERRUPTED), m.LogDigest(), 12))
    assert isinstance(report, m.PhaseFinished)
    assert report.leaving
    done = m.Done(session=SESSION, event="phase_finished", run="R1", attempt=1)
    assert kinds(worker.received(done, 13)) == ["Goodbye"]


def test_a_stop_deadline_lets_the_phase_go_on_and_a_second_sigterm_ends_that() -> None:
    worker = running(stop_deadline=600)
    assert worker.terminate(10) == []
    assert not any(isinstance(action, EndPhase) for action in until(worker, 609))
    (end,) = worker.terminate(609)
    assert isinstance(end, EndPhase)
    assert end.grace_seconds == 0


def test_the_stop_deadline_ends_the_phase() -> None:
    worker = running(stop_deadline=600)
    worker.terminate(10)
    assert [action.reason for action in until(worker, 611) if isinstance(action, EndPhase)] == [Reason.INTERRUPTED]


def test_a_finished_phase_is_reported_as_leaving_after_sigterm() -> None:
    worker = running()
    worker.report(("R1", 1), FINISHED, m.LogDigest(), 5)
    reports = sent(worker.terminate(6))
    assert [message.leaving for message in reports if isinstance(message, m.PhaseFinished)] == [True]


def test_cycle_kills_reports_and_leaves_with_its_exit_code() -> None:
    worker = running()
    (end,) = worker.received(m.Cycle(generation=2), 4)
    assert isinstance(end, EndPhase)
    assert (end.reason, end.grace_seconds) == (Reason.CYCLED, 0)
    worker.report(("R1", 1), m.Outcome(end="FAILED", reason=Reason.CYCLED), m.LogDigest(), 5)
    worker.received(m.Done(session=SESSION, event="phase_finished", run="R1", attempt=1), 6)
    assert Leave(ExitCode.CYCLED) in worker.received(m.Done(session=SESSION, event="goodbye"), 7)


def test_remains_are_told_until_welcome_and_a_hundred_at_a_time() -> None:
    remains = [m.Remains(worker_id="ns.P.X", run=f"R{i}", attempt=1) for i in range(130)]
    worker = make(remains)
    (first,) = sent(worker.connected(0))
    (second,) = sent(worker.received(welcome(), 1))
    assert isinstance(first, m.Registered)
    assert isinstance(second, m.Registered)
    assert (len(first.remains), len(second.remains)) == (100, 30)
    worker.received(welcome(), 2)
    assert not worker.remains_unreported


def tellings(worker: Worker, to: float) -> list[TellOutput]:
    return [action for action in until(worker, to) if isinstance(action, TellOutput)]


def test_output_that_no_chunk_tells_of_is_told_and_again_every_minute() -> None:
    assert [one.since for one in tellings(running(), 200)] == [3, 63, 123]


def test_a_chunk_that_is_stored_tells_of_the_output_before_it() -> None:
    worker = running()
    for at in range(30, 900, 30):
        assert tellings(worker, at) == []
        worker.stored(at - 2)


def test_nothing_is_told_while_nobody_can_hear_it_and_at_once_when_they_can() -> None:
    worker = running()
    worker.disconnected(10)
    assert tellings(worker, 100) == []
    assert TellOutput("R1", 1, since=3, failing=False) in worker.connected(101)


@given(
    log_timeout=st.floats(1, 7200),
    chunks=st.lists(st.floats(0.1, 3600), max_size=20),
)
def test_output_is_told_before_the_shortest_backstop_can_end_the_run(log_timeout: float, chunks: list[float]) -> None:
    """A command that writes all the time, and chunks as they may come: with no slack at all it counts as alive."""
    worker = welcomed()
    worker.received(assignment().model_copy(update={"log_timeout_seconds": log_timeout}), 1)
    worker.prepared(("R1", 1), 2)
    worker.received(go(), 3)
    heard, at, stored = 3.0, 3.0, sorted(3 + span for span in chunks)
    while at < min(3 + 5 * log_timeout, 10_000):
        tick = worker.next_tick()
        at = min([tick if tick is not None else 1e9, *stored])
        assert at <= heard + log_timeout
        if stored and at == stored[0]:
            worker.stored(stored.pop(0))
            heard = at
        if any(isinstance(action, TellOutput) for action in worker.tick(at)):
            heard = at


def extend(log_seconds: float, run_seconds: float, note: str | None = None) -> m.Extend:
    return m.Extend(
        session=SESSION,
        run="R1",
        attempt=1,
        log_timeout_seconds=log_seconds,
        run_timeout_seconds=run_seconds,
        note=note,
    )


def test_an_extension_changes_how_often_output_is_told() -> None:
    worker = welcomed()
    worker.received(assignment().model_copy(update={"log_timeout_seconds": 10}), 1)
    worker.prepared(("R1", 1), 2)
    worker.received(go(), 3)
    worker.received(extend(20, 4200), 4)
    assert [one.since for one in tellings(worker, 35)] == [3, 13, 23]


def test_an_extension_reaches_the_phase_once_with_who_has_given_it() -> None:
    worker = running()
    assert SetTimeouts(600, 7200, "by alice") in worker.received(extend(600, 7200, "by alice"), 4)
    assert worker.received(extend(600, 7200, "by alice"), 5) == []


def test_timeouts_only_grow_whatever_older_words_come_later() -> None:
    worker = running()
    worker.received(extend(600, 7200), 4)
    assert worker.received(extend(500, 9000), 5) == [SetTimeouts(600, 9000, "")]
    assert worker.received(go().model_copy(update={"log_timeout_seconds": 420, "run_timeout_seconds": 4200}), 6) == []


def test_a_repeated_go_brings_an_extension_that_was_lost() -> None:
    worker = running()
    again = go().model_copy(update={"log_timeout_seconds": 420, "run_timeout_seconds": 7200})
    assert worker.received(again, 4) == [SetTimeouts(420, 7200, "")]


def test_an_extension_that_overtakes_its_go_is_what_the_phase_begins_with() -> None:
    worker = welcomed()
    worker.received(assignment(), 1)
    worker.prepared(("R1", 1), 2)
    worker.received(extend(600, 7200), 3)
    (begin,) = [action for action in worker.received(go(), 4) if isinstance(action, Begin)]
    assert (begin.assign.log_timeout_seconds, begin.assign.run_timeout_seconds) == (600, 7200)


@pytest.mark.parametrize(("kind", "grace"), [(m.Stop, 20), (m.Kill, 0)])
def test_a_stop_names_who_asked_for_it(kind: type[m.Stop | m.Kill], grace: float) -> None:
    worker = running()
    message = kind(session=SESSION, run="R1", attempt=1, reason=Reason.BY_USER, note="stopped by alice: too long")
    assert worker.received(message, 4) == [EndPhase(Reason.BY_USER, "stopped by alice: too long", grace)]


def phased(*names: str, first: int = 0) -> m.Assign:
    orders = [m.PhaseOrder(name=n, command=[n], log_timeout_seconds=30, run_timeout_seconds=300) for n in names]
    return assignment().model_copy(update={"phases": orders, "first": first})


def in_phase(*names: str, first: int = 0) -> Worker:
    worker = welcomed()
    worker.received(phased(*names, first=first), 1)
    assert m.Prepared(session=SESSION, run="R1", attempt=1, phase=first) in published(worker.prepared(("R1", 1), 2))
    told = go().model_copy(update={"phase": first})
    assert any(isinstance(action, Begin) for action in worker.received(told, 3))
    return worker


def published(actions: Sequence[Action]) -> list[m.FromAgent]:
    return [action.message for action in actions if isinstance(action, Publish)]


def test_the_next_phase_is_asked_for_until_it_is_told_to_begin() -> None:
    worker = in_phase("plan", "apply")
    asked = m.Prepared(session=SESSION, run="R1", attempt=1, phase=1)
    assert published(worker.phase_done(("R1", 1), 10)) == [asked]
    assert asked in published(worker.tick(20))
    told = m.Go(session=SESSION, run="R1", attempt=1, phase=1, log_timeout_seconds=60, run_timeout_seconds=90)
    assert worker.received(told, 21) == [GoOn(60, 90)]
    assert worker.received(told, 22) == []
    assert not any(isinstance(message, m.Prepared) for message in published(worker.tick(60)))


def test_a_go_of_the_phase_before_begins_nothing_and_extends_nothing() -> None:
    worker = in_phase("plan", "apply")
    worker.phase_done(("R1", 1), 10)
    old = m.Go(session=SESSION, run="R1", attempt=1, phase=0, log_timeout_seconds=420, run_timeout_seconds=4200)
    assert worker.received(old, 11) == []
    worker.received(old.model_copy(update={"phase": 1}), 12)
    late = old.model_copy(update={"run_timeout_seconds": 9000})
    assert worker.received(late, 13) == []


def test_phases_of_a_later_leg_have_their_numbers_in_the_run() -> None:
    worker = in_phase("apply", "check", first=2)
    assert published(worker.phase_done(("R1", 1), 10)) == [m.Prepared(session=SESSION, run="R1", attempt=1, phase=3)]


def test_an_attempt_that_ends_as_it_waits_asks_for_nothing_more() -> None:
    worker = in_phase("plan", "apply")
    worker.phase_done(("R1", 1), 10)
    [end] = worker.received(m.Kill(session=SESSION, run="R1", attempt=1, reason=Reason.BY_USER), 11)
    assert isinstance(end, EndPhase)
    worker.phase_ended(("R1", 1), 12)
    assert not any(isinstance(message, m.Prepared) for message in published(worker.tick(60)))


def test_an_extension_of_another_phase_is_not_this_one_s() -> None:
    worker = in_phase("plan", "apply")
    worker.phase_done(("R1", 1), 10)
    worker.received(go().model_copy(update={"phase": 1}), 11)
    assert worker.received(extend(9000, 9000), 12) == []
    [action] = worker.received(extend(9000, 9000).model_copy(update={"phase": 1}), 13)
    assert action == SetTimeouts(9000, 9000, "")
