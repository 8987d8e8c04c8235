"""A host with a policy: what it denies fails with the messages, and a policy with a fault does not start."""

from pathlib import Path

import pytest

from tests.e2e.hosts import start_host
from tests.shared.deployed.client import Deployment

pytestmark = pytest.mark.local

POLICY = """\
package quaymaster

deny contains msg if {
    some phase in input.run.phases
    phase.command[0] == "rm"
    msg := sprintf("not run here: %s", [phase.command[0]])
}

deny contains "no secrets of AWS in requests" if {
    some name in input.environment
    startswith(name, "AWS_")
}
"""
VARIABLE = "QUAYMASTER_LAUNCHER_RUN_INITIALIZATION_POLICY"


def test_a_host_refuses_what_its_policy_denies(deployment: Deployment, tmp_path: Path) -> None:
    file = tmp_path / "policy.rego"
    file.write_text(POLICY)
    pool = deployment.create_pool()
    start_host(deployment, pool, env={VARIABLE: str(file)})
    given = {"environment": {"AWS_SECRET_ACCESS_KEY": "hunter2"}}
    denied = deployment.wait(deployment.send(pool.pool_id, "denied", ["rm", "-rf", "x"], **given))
    assert (denied["state"], denied["reason"]) == ("FAILED", "policy_denied")
    assert denied["note"] == "no secrets of AWS in requests; not run here: rm"
    assert denied["begun_at"] is None
    assert [line["msg"] for line in deployment.log(denied)] == [f"denied: {denied['note']}"]
    allowed = deployment.wait(deployment.send(pool.pool_id, "allowed", ["echo", "here"]))
    assert deployment.output(allowed) == ["here"]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        (POLICY.replace("sprintf", "printf"), ":6:12: ", "could not find function printf"),
        (POLICY.replace("msg := sprintf", "other := sprintf"), ":3:15: ", "msg is unsafe"),
        (POLICY.replace("}", "", 1), ":9:6: ", "expecting `}`"),
    ],
)
def test_an_agent_with_a_policy_that_has_a_fault_does_not_start(
    deployment: Deployment, tmp_path: Path, text: str, place: str, what: str
) -> None:
    file = tmp_path / "policy.rego"
    file.write_text(text)
    pool = deployment.create_pool()
    agent = deployment.cloud.start_agent(pool.token, pool.key, env={VARIABLE: str(file)})
    assert agent.wait() == 78
    assert f"{VARIABLE}: found {file}{place}" in agent.output()
    assert what in agent.output()
