"""What the API says of a run's log, from its first chunk to its end and beyond."""

import pytest
from quaymaster.domain.api import LogView
from quaymaster.domain.messages import LogDigest, Outcome, Watch
from quaymaster.domain.run import released, touched
from quaymaster.domain.states import Reason
from quaymaster.ports import Replace

from tests.shared.memory.api_calls import InProcessApi
from tests.shared.memory.run_records import FINISHED, add_run, begin, complete, end, prepare, ship


@pytest.fixture
def api() -> InProcessApi:
    api = InProcessApi()
    api.pool("red")
    return api


def view(api: InProcessApi, run: str, **query: object) -> LogView:
    """The log as the API shows it."""
    answer = api.call("GET", f"/runs/{run}/logs", **query)
    assert answer.status == 200, answer.body
    return LogView.model_validate(answer.body)


def test_a_run_that_waits_has_no_log_and_it_has_not_ended(api: InProcessApi) -> None:
    log = view(api, add_run(api).id)
    assert (log.attempt, log.ended, log.chunks, log.final) == (0, False, [], None)


def test_chunks_are_shown_as_they_come_each_once(api: InProcessApi) -> None:
    run = begin(api, add_run(api))
    first = ship(api, run, 0, ["a"])
    log = view(api, run.id)
    assert [one.key for one in log.chunks] == [first]
    assert log.chunks[0].url.startswith(f"http://bucket.test/{first}")
    assert not log.ended
    second = ship(api, run, 1, ["b"])
    after = view(api, run.id, after=log.cursor)
    assert [one.key for one in after.chunks] == [second]
    nothing = view(api, run.id, after=after.cursor)
    assert (nothing.chunks, nothing.cursor) == ([], second)


def test_the_log_ends_with_its_end_marker_after_the_run_is_final(api: InProcessApi) -> None:
    run = begin(api, add_run(api))
    ship(api, run, 0, ["a"])
    complete(api, run, ["a", "b"], FINISHED)
    assert not view(api, run.id).ended
    end(api, run, FINISHED, LogDigest(lines=2, bytes=2))
    log = view(api, run.id)
    assert (log.ended, log.complete, log.lines, log.note) == (True, True, 2, None)
    assert log.final
    assert log.final.key == f"logs/{run.pool_id}/{run.id}/000001/log.ndjson.gz"


def test_a_log_that_was_put_together_from_chunks_says_that_it_is_incomplete(api: InProcessApi) -> None:
    run = begin(api, add_run(api))
    outcome = Outcome(end="FAILED", reason=Reason.WORKER_LOST, note="its worker was lost")
    complete(api, run, ["a"], outcome, whole=False)
    end(api, run, outcome)
    log = view(api, run.id)
    assert (log.ended, log.complete, log.note) == (True, False, "its worker was lost")


def test_a_log_that_is_still_to_be_put_together_is_waited_for_and_ends_after_a_grace(api: InProcessApi) -> None:
    run = begin(api, add_run(api))
    ship(api, run, 0, ["a"])
    end(api, run, Outcome(end="FAILED", reason=Reason.WORKER_LOST))
    ended = api.store.run(run.id)
    assert ended
    api.store.commit(Replace(touched(ended, due_at=api.clock())))
    assert not view(api, run.id).ended
    api.clock.forward(minutes=4)
    assert not view(api, run.id).ended
    api.clock.forward(minutes=1)
    log = view(api, run.id)
    assert (log.ended, log.complete, len(log.chunks)) == (True, False, 1)
    assert "no end marker" in (log.note or "")


def test_a_log_that_nobody_will_put_together_is_not_waited_for(api: InProcessApi) -> None:
    """Whoever ended the run has said so: it has nothing due."""
    run = begin(api, add_run(api))
    ship(api, run, 0, ["a"])
    end(api, run, Outcome(end="FAILED", reason=Reason.WORKER_LOST))
    log = view(api, run.id)
    assert (log.ended, log.complete, len(log.chunks)) == (True, False, 1)


def test_a_run_that_never_began_has_an_ended_log_at_once(api: InProcessApi) -> None:
    run = prepare(api, add_run(api))
    end(api, run, Outcome(end="FAILED", reason=Reason.IMAGE_PULL))
    log = view(api, run.id)
    assert (log.ended, log.note) == (True, "the command never began")


def test_a_cursor_of_an_earlier_attempt_leads_through_its_rest_to_the_latest(api: InProcessApi) -> None:
    run = begin(api, add_run(api, retryable=True))
    first, rest = ship(api, run, 0, ["a"]), ship(api, run, 1, ["b"])
    ready = released(run, api.clock(), "reaper", "its worker was lost")
    api.store.commit(Replace(ready))
    again = begin(api, ready)
    second = ship(api, again, 0, ["c"])
    log = view(api, run.id, after=first)
    assert (log.attempt, [one.key for one in log.chunks]) == (1, [rest])
    log = view(api, run.id, after=log.cursor)
    assert (log.attempt, [one.key for one in log.chunks]) == (2, [second])
    assert view(api, run.id).attempt == 2
    assert view(api, run.id, attempt=1).ended


def test_a_long_list_of_chunks_comes_in_pages_and_ends_only_with_the_last(api: InProcessApi) -> None:
    run = begin(api, add_run(api))
    for number in range(250):
        ship(api, run, number, [str(number)])
    complete(api, run, ["x"] * 250, FINISHED)
    end(api, run, FINISHED)
    first = view(api, run.id)
    assert (len(first.chunks), first.ended) == (200, False)
    second = view(api, run.id, after=first.cursor)
    assert (len(second.chunks), second.ended) == (50, True)


def test_another_runs_cursor_and_an_attempt_that_never_was_are_refused(api: InProcessApi) -> None:
    run = begin(api, add_run(api))
    for query, field in (
        ({"after": "chunks/x/y/000001/perform-00000000.ndjson.gz"}, "after"),
        ({"attempt": 2}, "attempt"),
    ):
        answer = api.call("GET", f"/runs/{run.id}/logs", **query)
        assert (answer.status, answer.body["field"]) == (400, field)


def test_whoever_follows_has_the_worker_ship_more_often_while_it_runs(api: InProcessApi) -> None:
    run = prepare(api, add_run(api))
    view(api, run.id, watch="true")
    assert api.messenger.sent == []
    running = begin(api, add_run(api, request="two"))
    view(api, running.id)
    assert api.messenger.sent == []
    view(api, running.id, watch="true")
    (sent,) = api.messenger.sent
    assert isinstance(sent.message, Watch)
    assert (sent.worker_id, sent.message.run, sent.message.session) == (running.worker, running.id, running.session)


def test_a_broker_that_is_down_keeps_nobody_from_reading_a_log(api: InProcessApi) -> None:
    run = begin(api, add_run(api))
    ship(api, run, 0, ["a"])
    api.messenger.down = "no answer"
    assert len(view(api, run.id, watch="true").chunks) == 1
    assert [event for event, _ in api.logged if event == "watch_not_sent"] == ["watch_not_sent"]


def test_a_bucket_that_is_down_is_told(api: InProcessApi) -> None:
    run = begin(api, add_run(api))
    api.blobs.down = "no answer"
    assert api.call("GET", f"/runs/{run.id}/logs").status == 503
