"""What a cold start costs: the CPU time that a fresh process takes to import a built function.

The yardstick is what no function in Python goes without: boto3 and a DynamoDB client, as pip installs them. Lambda's
own start is in neither; both are measured in turns, so that a slow minute of the machine meets all alike.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from bench.deployed import ENVIRONMENT
from bench.figures import Figure, Figures, least

ROUNDS = 25
BUILD = Path(".aws-sam/build").absolute()
LAYER = BUILD / "QuaymasterLayer/python"
FUNCTIONS: Mapping[str, str] = {
    "DispatchRuns": "dispatch_runs",
    "ReceiveWorkerEvents": "receive_worker_events",
    "ReceiveTaskEvents": "receive_task_events",
    "ReapOverdue": "reap_overdue",
    "ServeApi": "serve_api",
}
# botocore imports awscrt where it is, which no function has: only these are seen.
OF_BOTO3 = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
YARDSTICK = 'import boto3; boto3.client("dynamodb")'


def measure_imports() -> Figures:
    """Milliseconds of CPU for the yardstick; for each function, how many times that."""
    with tempfile.TemporaryDirectory(prefix="quaymaster-bench-") as folder:
        plain = _boto3_alone(Path(folder))
        cases = {"yardstick": (YARDSTICK, [plain])} | {
            name: (f"import {name}", [BUILD / function, LAYER]) for function, name in FUNCTIONS.items()
        }
        taken: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS + 1):
            for name, (code, path) in cases.items():
                taken[name].append(_cpu_seconds(code, path))
    # The first round fills the caches of the disk.
    found: dict[str, Figure] = {name: least([one * 1000 for one in taken[name][1:]]) for name in cases}
    yardstick = found.pop("yardstick")
    ratios = {f"cold_import_{name}": figure.over(yardstick) for name, figure in found.items()}
    return {"cpu_ms_of_boto3_and_a_client": yardstick} | ratios


def _boto3_alone(folder: Path) -> Path:
    """A folder with boto3 and what it needs, as installed here."""
    for name in OF_BOTO3:
        spec = find_spec(name)
        if not spec or not spec.origin:
            raise RuntimeError(f"{name} is not installed")
        origin = Path(spec.origin)
        found = origin.parent if origin.name == "__init__.py" else origin
        (folder / found.name).symlink_to(found)
    return folder


def _cpu_seconds(code: str, path: Sequence[Path]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # -I -S: nothing of this environment is seen but the path that is given.
    program = f"import sys; sys.path[:0] = {[str(one) for one in path]!r}\n{code}"
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], env=ENVIRONMENT, check=True, capture_output=True, timeout=60
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
