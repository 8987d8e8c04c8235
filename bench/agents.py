"""Memory of idle agents: of a process that is one worker, and of each worker more in the same process."""

from contextlib import ExitStack, closing

import psutil
from quaymaster_local.cloud import LocalCloud

from bench.figures import Figures, measured
from tests.shared.deployed.client import Deployment

ROUNDS = 3
FURTHER = 20


def measure_agents() -> Figures:
    """Resident megabytes (10^6 bytes), once all workers of the process are idle."""
    with ExitStack() as stack:
        cloud = stack.enter_context(LocalCloud(name="bench"))
        deployment = stack.enter_context(closing(Deployment(cloud)))
        first = [_megabytes(cloud, deployment, 1) for _ in range(ROUNDS)]
        crowd = [_megabytes(cloud, deployment, 1 + FURTHER) for _ in range(ROUNDS)]
    further = [(more - one) / FURTHER for one, more in zip(first, crowd, strict=True)]
    return {"first_agent_mb": measured(first), "further_worker_mb": measured(further)}


def _megabytes(cloud: LocalCloud, deployment: Deployment, count: int) -> float:
    pool = deployment.create_pool()
    agent = cloud.start_agent(pool.token, pool.key, count)
    deployment.wait_workers(pool.pool_id, count)
    found = psutil.Process(agent.pid).memory_info().rss / 1e6
    agent.stop()
    return found
