"""Two hundred runs from sixteen submitters on twenty workers: each begins exactly once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.client import Deployment

RUNS, SUBMITTERS, WORKERS = 200, 16, 20


def test_two_hundred_runs_begin_exactly_once_each(deployment: Deployment, open_folder: Path) -> None:
    pool = deployment.create_pool(accept_timeout="30s")
    ran = open_folder / "ran"
    ran.touch()
    ran.chmod(0o666)
    deployment.cloud.start_agent(pool.token, pool.key, WORKERS)
    deployment.wait_workers(pool.pool_id, WORKERS)
    command = ["sh", "-c", f'echo "$LONGSHORE_RUN $LONGSHORE_ATTEMPT" >> {ran}']
    with ThreadPoolExecutor(SUBMITTERS) as submitters:
        runs = list(submitters.map(lambda n: deployment.send(pool.pool_id, f"r{n}", command), range(RUNS)))
    ends = Counter(deployment.wait(run, seconds=180)["state"] for run in runs)
    assert ends == {"FINISHED": RUNS}
    begun = Counter(line.split()[0] for line in ran.read_text().splitlines())
    assert begun == Counter(dict.fromkeys(runs, 1))
    deployment.wait_workers(pool.pool_id, WORKERS)
