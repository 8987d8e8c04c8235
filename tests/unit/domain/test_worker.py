"""A worker's changes: marker and run come and go with its state."""

from datetime import timedelta

import pytest
from quaymaster.domain.worker import (
    Worker,
    WorkerState,
    asked,
    disconnected,
    freed,
    gone,
    leaving,
    occupied,
    reconnected,
)

from tests.shared.memory.records import NOW, a_worker, an_idle

SECOND = timedelta(seconds=1)
IDLE, MARKER = an_idle()
BUSY = occupied(IDLE, "run", 3, NOW + SECOND)


def test_a_busy_worker_holds_its_attempt_and_has_no_marker():
    assert (BUSY.state, BUSY.run, BUSY.attempt) == (WorkerState.BUSY, "run", 3)
    assert (BUSY.marker, BUSY.idle_since, BUSY.busy_since) == (None, None, NOW + SECOND)


def test_a_freed_worker_is_idle_under_a_marker_that_carries_it_whole():
    idle, marker = freed(BUSY, "fresh", NOW, done=1)
    assert (idle.state, idle.run, idle.attempt, idle.runs_done) == (WorkerState.IDLE, None, None, 1)
    assert (marker.worker, marker.random, idle.marker) == (idle, "fresh", "fresh")
    assert (idle.due_at, idle.disconnected_at, idle.note, idle.left) == (None, None, None, False)


def test_a_marker_names_one_idle_period():
    assert freed(BUSY, "one", NOW)[1].key != freed(BUSY, "two", NOW)[1].key


@pytest.mark.parametrize(
    ("after", "state"),
    [
        (asked(BUSY, "did not answer", NOW), WorkerState.ASKED),
        (leaving(BUSY, "drained", NOW, done=1), WorkerState.LEAVING),
        (gone(BUSY, "lost", NOW), WorkerState.GONE),
    ],
    ids=["asked", "leaving", "gone"],
)
def test_a_worker_that_gets_nothing_holds_nothing_and_says_why(after: Worker, state: WorkerState):
    assert after.state is state
    assert (after.run, after.attempt, after.marker, after.idle_since, after.busy_since) == (None,) * 5
    assert after.note


def test_a_worker_that_is_gone_is_looked_at_no_more_and_kept_for_a_while():
    after = gone(disconnected(BUSY, NOW, NOW), "lost", NOW + SECOND)
    assert (after.due_at, after.expires_at) == (None, NOW + SECOND)


def test_a_disconnected_worker_keeps_its_run_and_gets_a_deadline():
    after = disconnected(BUSY, NOW, NOW + SECOND)
    assert (after.run, after.attempt, after.disconnected_at, after.due_at) == ("run", 3, NOW, NOW + SECOND)
    back = reconnected(after, NOW + SECOND)
    assert (back.run, back.disconnected_at, back.due_at, back.seen_at) == ("run", None, None, NOW + SECOND)


def test_every_change_raises_the_version_by_one():
    worker = a_worker(version=7)
    changed = [
        occupied(worker, "run", 1, NOW),
        freed(worker, "r", NOW)[0],
        asked(worker, "n", NOW),
        leaving(worker, "n", NOW),
        gone(worker, "n", NOW),
        disconnected(worker, NOW, NOW),
        reconnected(worker, NOW),
    ]
    assert {after.version for after in changed} == {8}
