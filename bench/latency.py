"""How long a request takes to its worker and to its command, beside a chain of the same services without us.

All in one run on the local cloud, in turns, so that the ratios mean something on any machine and in any minute of it.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from quaymaster_local.agent import AgentProcess
from quaymaster_local.cloud import LocalCloud

from bench.chain import bare_chain
from bench.figures import Figures, measured
from tests.shared.deployed.client import Credential, Deployment

SAMPLES = 60
WARM_UP = 5
PAUSE = 0.1
TASKS = 5
SECONDS = 60


@dataclass
class Samples:
    """Seconds from SendMessage, each measured in turns with the others."""

    chain: list[float] = field(default_factory=list[float])
    agent: list[float] = field(default_factory=list[float])
    command: list[float] = field(default_factory=list[float])


def measure_latency() -> Figures:
    """Milliseconds, and the ratios that travel."""
    with ExitStack() as stack:
        cloud = stack.enter_context(LocalCloud(name="bench"))
        deployment = stack.enter_context(closing(Deployment(cloud)))
        samples = _in_turns(cloud, deployment)
        tasks = _bare_tasks(deployment)
    chain, agent, command = (
        measured([one * 1000 for one in found]) for found in (samples.chain, samples.agent, samples.command)
    )
    return {
        "bare_chain_ms": chain,
        "submit_to_agent_ms": agent,
        "submit_to_command_ms": command,
        "bare_runtask_ms": measured([one * 1000 for one in tasks]),
        "submit_to_agent_over_bare_chain": agent.over(chain),
        # To its command a request takes two chains: its assignment, and the `go` for which the agent asks.
        "submit_to_command_over_two_bare_chains": command.over(chain, times=2),
    }


class Heard:
    """What an agent says, read as it comes: reading it all again and again would be measured as well."""

    def __init__(self, agent: AgentProcess) -> None:
        self._log = agent.log
        self._read = 0

    def when(self, run: str, what: str) -> float:
        """When the agent said this of the run; what it said before is passed over."""
        until = time.time() + SECONDS
        while time.time() < until:
            for line in self._more():
                said: dict[str, Any] = json.loads(line) if line.startswith(b"{") else {}
                if said.get("msg") == what and said.get("run") == run:
                    return datetime.fromisoformat(said["ts"]).timestamp()
            time.sleep(0.02)
        raise RuntimeError(f"the agent never said of {run}: {what}")

    def _more(self) -> Iterator[bytes]:
        with self._log.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield line


def _in_turns(cloud: LocalCloud, deployment: Deployment) -> Samples:
    pool, elsewhere = deployment.create_pool(accept_timeout="15s"), deployment.create_pool()
    agent = cloud.start_agent(pool.token, pool.key, 2)
    deployment.wait_workers(pool.pool_id, 2)
    found, heard = Samples(), Heard(agent)
    with bare_chain(cloud, elsewhere) as chain:
        for number in range(WARM_UP + SAMPLES):
            bare = chain.once(number)
            time.sleep(PAUSE)
            to_agent, to_command = _submission(deployment, pool, heard, number)
            time.sleep(PAUSE)
            if number >= WARM_UP:
                found.chain.append(bare)
                found.agent.append(to_agent)
                found.command.append(to_command)
    return found


def _submission(deployment: Deployment, pool: Credential, heard: Heard, number: int) -> tuple[float, float]:
    """From SendMessage to the agent's `assigned`, and to the command's own first moment."""
    sent = time.time()
    run = deployment.send(pool.pool_id, f"latency-{number}", ["date", "+%s.%N"])
    assigned = heard.when(run, "assigned")
    # Nobody asks the API meanwhile: two functions at once would be measured, not one.
    heard.when(run, "the phase has ended")
    ended = deployment.wait(run, seconds=SECONDS)
    return assigned - sent, float(deployment.log(ended)[0]["msg"]) - sent


def _bare_tasks(deployment: Deployment) -> list[float]:
    """From RunTask to RUNNING, for a task that nobody asked anything of."""
    pool: Credential = deployment.create_pool("fargate")
    definition = deployment.read(f"/pools/{pool.pool_id}")["task_definition"]
    ecs, cluster = deployment.cloud.ecs(), deployment.cloud.outputs["ClusterName"]
    network = {"awsvpcConfiguration": {"subnets": ["subnet-local"], "assignPublicIp": "ENABLED"}}
    taken: list[float] = []
    for _ in range(TASKS):
        sent = time.time()
        started = ecs.run_task(
            cluster=cluster, taskDefinition=definition, launchType="FARGATE", networkConfiguration=network
        )
        task = started["tasks"][0]["taskArn"]
        while ecs.describe_tasks(cluster=cluster, tasks=[task])["tasks"][0]["lastStatus"] != "RUNNING":
            if time.time() - sent > SECONDS:
                raise RuntimeError("no task ran within a minute")
            time.sleep(0.01)
        taken.append(time.time() - sent)
        ecs.stop_task(cluster=cluster, task=task, reason="measured")
    return taken
