"""The one line that says why a run is where it is."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from quaymaster.dispatcher.users.waiting import Surroundings
from quaymaster.dispatcher.users.why import explain
from quaymaster.domain.api import PoolCounts
from quaymaster.domain.pool import PoolKind, PoolSettings, Ticket
from quaymaster.domain.run import Ending, Run
from quaymaster.domain.states import Reason, RunState

from tests.shared.memory.records import NOW, POOL, a_pool, a_run


def around(**changes: Any) -> Surroundings:
    """A private pool where nothing goes on, a minute after the run came; `counts` are by name."""
    counts = {"idle": 0, "busy": 0, "absent": 0, "starting": 0, "queued": 1, **changes.pop("counts", {})}
    pool = a_pool(kind_of=changes.pop("kind", PoolKind.PRIVATE), settings=PoolSettings(max_workers=2))
    plain = Surroundings(
        pool=pool,
        counts=PoolCounts(**counts),
        reserved=0,
        launch_note=None,
        queue=[],
        now=NOW + timedelta(minutes=1),
    )
    return replace(plain, **changes)


def queue(*runs: Run) -> list[Ticket]:
    """The tickets of these runs, in this order."""
    return [Ticket(pool_id=POOL, rank=2, accepted_at=NOW, run_id=run.id) for run in runs]


READY = a_run("mine")
HELD = {"worker": "w1", "claimed_at": NOW, "attempt": 1}


def test_a_private_pool_without_workers_says_how_to_get_one() -> None:
    assert explain(READY, around(queue=queue(READY))) == (
        "it is number 1 in the queue: "
        "no worker of pool team-a is connected; start quaymaster-agent with its token and key"
    )


def test_the_place_in_the_queue_counts_those_before_it() -> None:
    line = explain(READY, around(queue=queue(a_run("a"), a_run("b"), READY), counts={"busy": 3}))
    assert line == "it is number 3 in the queue: all 3 workers of pool team-a are busy"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"counts": {"busy": 1}}, "the only worker of pool team-a is busy"),
        ({"counts": {"busy": 1, "absent": 1}}, "busy, and 1 worker of pool team-a does not answer"),
        ({"counts": {"absent": 2}}, "2 workers of pool team-a do not answer"),
        ({"counts": {"idle": 1}}, "1 worker of pool team-a is idle and about to take runs"),
        ({"kind": PoolKind.FARGATE}, "a Fargate task of pool team-a is about to be started"),
        ({"kind": PoolKind.FARGATE, "counts": {"starting": 2}}, "2 Fargate tasks of pool team-a are starting"),
        ({"kind": PoolKind.FARGATE, "reserved": 2, "counts": {"busy": 2}}, "at its limit of 2 workers (max_workers)"),
        ({"kind": PoolKind.FARGATE, "launch_note": "RESOURCE:ENI"}, "(ECS said: RESOURCE:ENI)"),
    ],
)
def test_a_waiting_run_names_what_is_lacking(changes: dict[str, Any], said: str) -> None:
    assert said in explain(READY, around(queue=queue(READY), **changes))


def test_tries_that_came_to_nothing_are_counted() -> None:
    run = replace(READY, offers=2, losses=1)
    assert explain(run, around(queue=queue(run))).endswith(
        "; 2 offers had no answer, 1 worker was lost before it had begun"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": RunState.QUEUED}, "it is blocked by another run"),
        ({"state": RunState.PREPARING, **HELD}, "it was offered to w1 60s ago, which has not answered yet"),
        ({"state": RunState.PREPARING, **HELD, "resent_at": NOW}, "it was offered a second time"),
        (
            {"state": RunState.PREPARING, **HELD, "answered_at": NOW},
            "w1 has been preparing it (image, workspace) for 60s",
        ),
        ({"state": RunState.RUNNING, **HELD, "begun_at": NOW}, "it runs on w1 for 60s"),
        ({"state": RunState.RUNNING, **HELD, "upload_failing": True}, "cannot upload the log"),
        ({"state": RunState.FAILED, "reason": Reason.LOG_TIMEOUT}, "it ended as FAILED, reason log_timeout"),
        ({"state": RunState.FAILED, "reason": Reason.EXIT_CODE, "exit_code": 7, "note": "bad"}, "exit code 7: bad"),
        ({"state": RunState.FINISHED, "exit_code": 0}, "it ended as FINISHED, exit code 0"),
    ],
)
def test_every_other_state_says_what_goes_on(changes: dict[str, Any], said: str) -> None:
    assert said in explain(replace(READY, **changes), around())


def test_a_run_whose_end_is_decided_says_why_and_until_when() -> None:
    ending = Ending(state=RunState.FAILED, reason=Reason.WORKER_LOST, by="reaper", deadline=NOW + timedelta(minutes=5))
    line = explain(replace(READY, state=RunState.RUNNING, ending=ending), around())
    assert "worker_lost by reaper" in line
    assert "2026-03-01T12:05:00+00:00" in line


def test_every_answer_is_one_line() -> None:
    for state in RunState:
        assert "\n" not in explain(replace(READY, state=state), around())
