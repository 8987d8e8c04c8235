"""A run's changes: each is in the table, raises the version, and is told in the history."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quaymaster.domain.messages import LogDigest, Outcome
from quaymaster.domain.run import (
    HISTORY_LIMIT,
    Ending,
    Run,
    Timeouts,
    begun,
    claimed,
    failed,
    finished,
    read_history,
    released,
    touched,
)
from quaymaster.domain.states import FINAL, HELD, NEXT, Reason, RunState
from quaymaster.domain.steering import canceled

from tests.shared.memory.records import NOW, a_run

SECOND = timedelta(seconds=1)
TIMEOUTS = Timeouts(log=timedelta(minutes=7), run=timedelta(minutes=70))
DIGEST = LogDigest(lines=3, bytes=30, sha256="a" * 64)


def claim(run: Run, at: datetime = NOW) -> Run:
    return claimed(run, "worker", "session", at, TIMEOUTS, at + SECOND)


PREPARING = claim(a_run())
RUNNING = begun(PREPARING, NOW + SECOND)


def test_a_claim_raises_the_attempt_and_sets_what_holds_it():
    assert (PREPARING.state, PREPARING.attempt, PREPARING.version) == (RunState.PREPARING, 1, 2)
    assert PREPARING.held_by("worker", "session", 1)
    assert (PREPARING.log_timeout, PREPARING.run_timeout) == (TIMEOUTS.log, TIMEOUTS.run)
    assert PREPARING.due_at == NOW + SECOND


@pytest.mark.parametrize("holder", [("other", "session", 1), ("worker", "newer", 1), ("worker", "session", 2)])
def test_another_worker_session_or_attempt_holds_nothing(holder: tuple[str, str, int]):
    assert not RUNNING.held_by(*holder)


def test_nobody_holds_a_run_that_is_ready_or_final():
    ready = released(PREPARING, NOW, "worker", "handed back")
    ended = failed(RUNNING, Reason.WORKER_LOST, NOW, "reaper")
    for run in (a_run(), ready, ended):
        assert not run.held_by("worker", "session", run.attempt)


def test_a_second_claim_forgets_what_the_first_attempt_left():
    first = touched(
        RUNNING, chunk="c", chunk_at=NOW, output_at=NOW, upload_failing=True, answered_at=NOW, resent_at=NOW
    )
    again = claim(released(replace(first, retryable=True), NOW, "reaper", "lost", losses=1))
    assert (again.attempt, again.losses) == (2, 1)
    assert (again.chunk, again.chunk_at, again.output_at, again.answered_at, again.resent_at, again.begun_at) == (
        None,
    ) * 6
    assert not again.upload_failing


def test_a_released_run_keeps_its_attempt_and_counts_why():
    back = released(PREPARING, NOW, "reaper", "did not answer", offers=1)
    assert (back.state, back.attempt, back.offers, back.losses) == (RunState.READY, 1, 1, 0)
    assert (back.worker, back.session, back.due_at, back.claimed_at, back.ending) == (None,) * 5


def test_a_run_that_ended_well_has_no_reason():
    ended = finished(RUNNING, Outcome(end="FINISHED", exit_code=0), DIGEST, NOW + SECOND, "worker")
    assert (ended.state, ended.reason, ended.exit_code, ended.log) == (RunState.FINISHED, None, 0, DIGEST)
    assert (ended.ended_at, ended.due_at, ended.is_final) == (NOW + SECOND, None, True)


def decided(run: Run, state: RunState, reason: Reason) -> Run:
    return touched(run, ending=Ending(state=state, reason=reason, by="reaper", deadline=NOW))


@pytest.mark.parametrize("seen", [Reason.EXIT_CODE, Reason.KILLED, Reason.INTERRUPTED])
def test_the_decision_that_killed_a_run_says_why_it_ended(seen: Reason):
    run = decided(RUNNING, RunState.FAILED, Reason.RUN_TIMEOUT)
    ended = finished(run, Outcome(end="FAILED", reason=seen, exit_code=137), DIGEST, NOW, "worker")
    assert (ended.state, ended.reason, ended.exit_code) == (RunState.FAILED, Reason.RUN_TIMEOUT, 137)
    assert ended.ending is None


def test_a_command_that_ended_well_before_its_kill_reached_it_ended_well():
    run = decided(RUNNING, RunState.STOPPED, Reason.BY_USER)
    assert finished(run, Outcome(end="FINISHED", exit_code=0), DIGEST, NOW, "worker").state is RunState.FINISHED


@given(
    end=st.sampled_from(["FINISHED", "FAILED", "STOPPED"]),
    reason=st.none() | st.sampled_from(Reason),
    run=st.sampled_from([PREPARING, RUNNING]),
)
def test_whatever_a_worker_says_ends_its_run_within_the_table(end: str, reason: Reason | None, run: Run):
    outcome = Outcome.model_validate({"end": end, "reason": reason, "exit_code": 1})
    ended = finished(run, outcome, None, NOW, "worker")
    assert ended.state in NEXT[run.state] & FINAL
    assert ended.state is not RunState.FINISHED or end == "FINISHED"


def test_a_run_that_never_began_never_finished():
    ended = finished(PREPARING, Outcome(end="FINISHED", exit_code=0), None, NOW, "worker")
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.START_FAILED)


ENDED = canceled(a_run(), NOW, "user")


CHANGES: dict[str, Callable[[Run], Run]] = {
    "claimed": claim,
    "begun": lambda run: begun(run, NOW),
    "released": lambda run: released(run, NOW, "reaper", "x"),
    "failed": lambda run: failed(run, Reason.WORKER_LOST, NOW, "reaper"),
    "canceled": lambda run: canceled(run, NOW, "user"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_nothing_changes_a_final_run(change: Callable[[Run], Run]):
    with pytest.raises(ValueError, match="not in the table"):
        change(ENDED)


def test_a_running_run_is_not_canceled_but_stopped():
    with pytest.raises(ValueError, match="not in the table"):
        canceled(RUNNING, NOW, "user")


def test_the_history_tells_every_change_with_its_version_time_and_actor():
    ended = finished(RUNNING, Outcome(end="FAILED", reason=Reason.EXIT_CODE), DIGEST, NOW + 2 * SECOND, "worker")
    assert [(change.state, change.version, change.by) for change in read_history(ended)] == [
        (RunState.READY, 1, "dispatcher"),
        (RunState.PREPARING, 2, "dispatcher"),
        (RunState.RUNNING, 3, "worker"),
        (RunState.FAILED, 4, "worker"),
    ]
    assert [change.at for change in read_history(ended)] == [NOW, NOW, NOW + SECOND, NOW + 2 * SECOND]


def test_a_long_history_keeps_how_the_run_came_in_and_how_it_goes():
    run = a_run()
    for _ in range(20):
        run = released(claim(run), NOW, "reaper", "a|note", offers=1)
    changes = read_history(run)
    assert len(changes) == HISTORY_LIMIT
    assert (changes[0].version, changes[-1].version) == (1, run.version)
    assert [change.version for change in changes] == sorted(change.version for change in changes)
    assert changes[-1].note == "a|note"


@given(st.lists(st.sampled_from(["touched", *CHANGES]), max_size=25))
def test_versions_rise_by_one_attempts_by_claims_only_and_ends_are_ends(names: list[str]):
    run = replace(a_run(), retryable=True)
    for name in names:
        try:
            after = touched(run, resent_at=NOW) if name == "touched" else CHANGES[name](run)
        except ValueError:
            continue
        assert after.version == run.version + 1
        assert after.attempt == run.attempt + (name == "claimed")
        assert after.state == run.state or after.state in NEXT[run.state]
        assert (after.worker is not None) == (after.state in HELD) or after.is_final
        assert after.accepted_at == run.accepted_at
        run = after
