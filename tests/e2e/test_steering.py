"""Runs that people steer: real agents, commands that resist, and races."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from tests.e2e.hosts import start_host
from tests.shared.deployed.client import Deployment, wait_until

pytestmark = pytest.mark.timeout(func_only=True)

RESISTS = """
trap '' TERM HUP
echo here
( trap '' TERM HUP; exec >&- 2>&-; while :; do sleep 1 <&-; done ) &
setsid sh -c 'trap "" TERM; while :; do sleep 1; done' &
while :; do sleep 1; done
"""
RACES = 200


def steer(deployment: Deployment, run: str, what: str, **fields: Any) -> dict[str, Any]:
    status, found = deployment.call("POST", f"/runs/{run}/{what}", fields)
    assert status in (200, 202), found
    return found


def marked(name: str) -> list[psutil.Process]:
    """The processes whose environment has this name."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if name in process.environ():
                found.append(process)
        except psutil.Error:
            # Another's, or gone.
            continue
    return found


def test_a_command_that_ignores_every_signal_and_hides_is_stopped_with_all_that_it_started(
    deployment: Deployment,
) -> None:
    pool = deployment.create_pool(stop_grace="2s")
    start_host(deployment, pool)
    name = f"STEERED_{time.time_ns()}"
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", RESISTS], environment={name: "1"})
    deployment.wait(run, "RUNNING")
    wait_until(lambda: len(marked(name)) >= 3)
    shown = steer(deployment, run, "stop", note="it resists")
    assert (shown["state"], shown["ending"]["reason"], shown["ending"]["note"]) == ("RUNNING", "by_user", "it resists")
    found = deployment.wait(run)
    assert (found["state"], found["reason"], found["note"]) == ("STOPPED", "by_user", "stopped by root: it resists")
    assert found["exit_code"] == 137
    assert marked(name) == []
    assert any("stopped by root: it resists" in line["msg"] for line in deployment.log(found))
    assert steer(deployment, run, "stop")["state"] == "STOPPED"
    # Its worker takes the next one.
    assert deployment.wait(deployment.send(pool.pool_id, "two", ["true"]))["state"] == "FINISHED"


def test_a_kill_leaves_no_time_and_a_stop_does(deployment: Deployment) -> None:
    pool = deployment.create_pool(stop_grace="30s", backstop_slack="40s")
    start_host(deployment, pool, count=2)
    script = "trap 'echo tidied up; exit 3' TERM; echo here; while :; do sleep 0.1; done"
    polite, killed = (deployment.send(pool.pool_id, name, ["sh", "-c", script]) for name in ("polite", "killed"))
    for run in (polite, killed):
        deployment.wait(run, "RUNNING")
        wait_until(lambda run=run: bool(deployment.shipped(pool.pool_id, run)))
    steer(deployment, polite, "stop")
    steer(deployment, killed, "kill")
    found = deployment.wait(polite)
    # A shell may also tell of the program that it waited for.
    assert (found["state"], found["exit_code"], deployment.output(found)[-1]) == ("STOPPED", 3, "tidied up")
    found = deployment.wait(killed)
    assert (found["state"], found["exit_code"], deployment.output(found)) == ("STOPPED", 137, ["here"])


def test_of_cancel_and_begin_exactly_one_wins_two_hundred_times(deployment: Deployment) -> None:
    pool = deployment.create_pool(accept_timeout="2s")
    start_host(deployment, pool, count=4)
    bodies = [
        {"schema": 1, "id": f"race-{n}", "pool": pool.pool_id, "command": ["true"]} for n in range(RACES)
    ]  # fmt: skip
    outcomes: dict[str, int] = {}

    def race(body: dict[str, Any]) -> None:
        run = deployment.send(pool.pool_id, body["id"], body["command"])
        while deployment.run(run) is None:
            time.sleep(0.001)
        status, _ = deployment.call("POST", f"/runs/{run}/cancel", {})
        outcomes[run] = status

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(race, bodies))
    ended = {run: deployment.wait(run, reaping=True) for run in outcomes}
    for run, status in outcomes.items():
        began = any(change["state"] == "RUNNING" for change in ended[run]["history"])
        assert (ended[run]["state"], began) == (("CANCELED", False) if status == 200 else ("FINISHED", True)), run
        assert status in (200, 409)
    assert len(outcomes) == RACES
    # All workers are whole.
    last = [deployment.send(pool.pool_id, f"last-{number}", ["true"]) for number in range(4)]
    assert all(deployment.wait(run, reaping=True)["state"] == "FINISHED" for run in last)


def test_a_run_whose_agent_is_gone_is_being_ended_until_that_is_certain(deployment: Deployment) -> None:
    pool = deployment.create_pool(lease="10s", stop_grace="1s", lost_slack="1s")
    agent = start_host(deployment, pool)
    run = deployment.send(pool.pool_id, "one", ["sleep", "600"])
    deployment.wait(run, "RUNNING")
    agent.kill()
    shown = steer(deployment, run, "stop")
    assert (shown["state"], shown["ending"]["state"]) == ("RUNNING", "STOPPED")
    assert "being ended as by_user by root" in deployment.read(f"/runs/{run}/why")["why"]
    found = deployment.wait(run, reaping=True)
    assert (found["state"], found["reason"]) == ("STOPPED", "by_user")


def test_an_extension_moves_the_workers_timeouts_and_is_in_the_log(deployment: Deployment) -> None:
    pool = deployment.create_pool(warning="1s")
    start_host(deployment, pool)
    script = "for i in $(seq 12); do sleep 1; done; echo done"
    run = deployment.send(pool.pool_id, "one", ["sh", "-c", script], log_timeout="6s", run_timeout="6s")
    deployment.wait(run, "RUNNING")
    steer(deployment, run, "extend", log_timeout="1m", run_timeout="2m", note="slow today")
    found = deployment.wait(run)
    assert (found["state"], deployment.output(found)) == ("FINISHED", ["done"])
    assert (found["log_timeout"], found["run_timeout"]) == ("1m", "2m")
    said = [line["msg"] for line in deployment.log(found) if line["stream"] == "agent"]
    assert "log timeout 6s to 1m; run timeout 6s to 2m, by root: slow today" in said
    status, refused = deployment.call("POST", f"/runs/{run}/extend", {"run_timeout": "3h"})
    assert (status, refused["error"]) == (
        409,
        f"run {run}: found FINISHED; a run that has begun and that nothing ends: its timeouts count from its beginning",
    )


def test_an_ended_run_is_retried_with_all_that_it_was_asked_for(deployment: Deployment) -> None:
    pool = deployment.create_pool()
    start_host(deployment, pool)
    first = deployment.send(pool.pool_id, "one", ["sh", "-c", "echo $A; exit 3"], environment={"A": "once"})
    assert deployment.wait(first)["exit_code"] == 3
    second = steer(deployment, first, "retry")["run"]
    found = deployment.wait(second)
    assert (found["exit_code"], deployment.output(found)) == (3, ["once"])
    assert steer(deployment, first, "retry")["run"] == second
    assert (found["retry_of"], deployment.read(f"/runs/{first}")["retried_as"]) == (first, second)
    key = f"inputs/{pool.pool_id}/expired/workspace.tar.gz"
    lost = deployment.send(pool.pool_id, "lost", ["true"], workspace={"key": key})
    assert deployment.wait(lost)["reason"] == "workspace"
    status, refused = deployment.call("POST", f"/runs/{lost}/retry", {})
    assert status == 400
    assert "which has expired" in refused["error"]
