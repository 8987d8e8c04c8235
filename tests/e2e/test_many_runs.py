"""Two hundred runs from sixteen submitters on twenty workers: each begins exactly once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.hosts import start_host
from tests.shared.deployed.client import Deployment

pytestmark = pytest.mark.timeout(300, func_only=True)

RUNS, SUBMITTERS, WORKERS = 200, 16, 20


def test_two_hundred_runs_begin_exactly_once_each(deployment: Deployment, open_folder: Path) -> None:
    pool = deployment.create_pool(accept_timeout="30s")
    ran = open_folder / "ran"
    ran.touch()
    ran.chmod(0o666)
    start_host(deployment, pool, WORKERS, seconds=120)
    command = ["sh", "-c", f'echo "$QUAYMASTER_RUN $QUAYMASTER_ATTEMPT" >> {ran}']

    def submit(number: int) -> str:
        return deployment.send(pool.pool_id, f"r{number}", command)

    with ThreadPoolExecutor(SUBMITTERS) as submitters:
        runs = list(submitters.map(submit, range(RUNS)))
    ends = Counter(deployment.wait(run, seconds=180)["state"] for run in runs)
    assert ends == {"FINISHED": RUNS}
    begun = Counter(ran.read_text().splitlines())
    ended = {run: deployment.read(f"/runs/{run}")["attempt"] for run in runs}
    assert begun == Counter({f"{run} {attempt}": 1 for run, attempt in ended.items()})
    deployment.wait_workers(pool.pool_id, WORKERS)
