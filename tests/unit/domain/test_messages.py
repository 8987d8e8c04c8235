"""What agents say has bounds: a number or a text beyond them refuses that message, and nothing else."""

import json
from typing import Any

import pytest
from pydantic import ValidationError
from quaymaster.domain.messages import read_from_agent
from quaymaster.domain.states import RunState
from quaymaster.errors import Refused

from tests.shared.memory.agents import running, settle_down
from tests.shared.memory.world import World

HUGE = 10**60
ENDED: dict[str, Any] = {"session": "s", "run": "R1", "attempt": 1, "outcome": {"end": "FAILED", "exit_code": 1}}


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        ("phase_finished", {"outcome": {"end": "FAILED", "exit_code": HUGE}}),
        ("phase_finished", {"outcome": {"end": "FAILED", "exit_code": -HUGE}}),
        ("phase_finished", {"outcome": {"end": "FAILED", "note": "x" * 201}}),
        ("phase_finished", {"log": {"lines": HUGE}}),
        ("phase_finished", {"log": {"bytes": -1}}),
        ("phase_finished", {"log": {"dropped": HUGE}}),
        ("phase_finished", {"attempt": HUGE}),
        ("renew", {"quiet_seconds": HUGE}),
        ("renew", {"quiet_seconds": -1}),
        ("registered", {"metadata": {"tag": "x" * 257}}),
        ("registered", {"metadata": {"x" * 257: "tag"}}),
        ("registered", {"log_timeout_seconds": HUGE}),
    ],
)
def test_what_is_beyond_its_bounds_is_refused(event: str, changes: dict[str, Any]):
    with pytest.raises(ValidationError):
        read_from_agent(event, json.dumps({**ENDED, "quiet_seconds": 0, **changes}).encode())


def test_exit_codes_that_systems_have_are_taken():
    for code in (0, 255, -9, 0xC0000005, -(2**31)):
        read_from_agent(
            "phase_finished", json.dumps({**ENDED, "outcome": {"end": "FAILED", "exit_code": code}}).encode()
        )


def test_a_report_with_a_number_that_nobody_can_keep_is_refused_and_the_next_one_ends_the_run():
    world = World()
    one = running(world)
    run = world.run("r1")
    report = {**ENDED, "session": one.session, "run": run.id, "outcome": {"end": "FAILED", "exit_code": HUGE}}
    with pytest.raises(Refused):
        world.hear(one.worker_id, "phase_finished", json.dumps(report).encode())
    assert world.run("r1").state is RunState.RUNNING
    one.finish()
    settle_down(world, one)
    assert world.run("r1").state is RunState.FINISHED


def test_an_end_marker_that_cannot_be_kept_counts_as_none_and_the_run_ends_anyway():
    world = World()
    one = running(world)
    run = world.run("r1")
    marker = {"schema": 1, "run": run.id, "attempt": 1, "digest": {}, "outcome": {"end": "FAILED", "exit_code": HUGE}}
    world.blobs.write(f"logs/{world.pool.id}/{run.id}/000001/log.json", json.dumps(marker).encode())
    world.disconnect(one.worker_id)
    for _ in range(8):
        world.sweep(61)
    assert (world.run("r1").state, world.run("r1").reason) == (RunState.FAILED, "worker_lost")
