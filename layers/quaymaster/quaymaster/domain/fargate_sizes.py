"""The sizes of tasks that Fargate sells: for each number of CPU units, these MiB of memory.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html#fargate-tasks-size, Linux.
"""

from collections.abc import Mapping, Sequence

from quaymaster.errors import Refused

GIB = 1024
SIZES: Mapping[int, Sequence[int]] = {
    256: (GIB // 2, GIB, 2 * GIB),
    512: range(1 * GIB, 4 * GIB + 1, GIB),
    1024: range(2 * GIB, 8 * GIB + 1, GIB),
    2048: range(4 * GIB, 16 * GIB + 1, GIB),
    4096: range(8 * GIB, 30 * GIB + 1, GIB),
    8192: range(16 * GIB, 60 * GIB + 1, 4 * GIB),
    16384: range(32 * GIB, 120 * GIB + 1, 8 * GIB),
}


def check_size(cpu: int, memory: int) -> None:
    """Raises Refused, with what goes together, for a size that Fargate does not sell."""
    if cpu not in SIZES:
        raise Refused("cpu", cpu, f"one of {', '.join(map(str, SIZES))} (1024 are one vCPU)")
    if memory not in SIZES[cpu]:
        raise Refused("memory", memory, f"with {cpu} CPU units {_told(SIZES[cpu])} MiB")


def _told(sizes: Sequence[int]) -> str:
    if isinstance(sizes, range):
        return f"{sizes[0]} to {sizes[-1]} in steps of {sizes.step}"
    return f"one of {', '.join(map(str, sizes))}"
