"""What a phase uses, from readings to a line that says what holds it up and what would do."""

import os
from pathlib import Path

import pytest
from quaymaster.domain.messages import Usage
from quaymaster_worker.containers.stats import read_stats
from quaymaster_worker.metering.cgroup_readings import read_cgroup, read_own_cgroup, read_processes, since
from quaymaster_worker.metering.usage import Advice, Reading, Used

MIB = 1 << 20
ADVICE = Advice(cpus="MORE_CPUS", memory="MORE_MEMORY")


def used(processors: float = 8) -> Used:
    made = Used(ADVICE, processors)
    made.begin(0)
    return made


def reading(cpu: float, throttled: float = 0, cpus: float | None = 0.5, memory: int = 10 * MIB) -> Reading:
    return Reading(
        cpu_seconds=cpu,
        throttled_seconds=throttled,
        memory_bytes=memory,
        cpus=cpus,
        memory_limit_bytes=64 * MIB,
    )


def test_peaks_and_sums_over_the_commands_of_a_run() -> None:
    found = used()
    found.see(reading(1, memory=30 * MIB), 5)
    found.see(reading(2, throttled=0.5, memory=20 * MIB), 10)
    found.begin(20)
    found.see(reading(1, throttled=0.25), 25)
    assert found.usage == Usage(
        elapsed_ms=15_000,
        cpu_ms=3000,
        throttled_ms=750,
        millicpus=500,
        memory_peak_bytes=30 * MIB,
        memory_limit_bytes=64 * MIB,
    )
    assert used().usage is None


def test_a_phase_that_is_throttled_for_long_is_told_once_with_what_would_do() -> None:
    found = used()
    # It may use half a processor, and waits for three quarters of its time: it wants two.
    told = [found.see(reading(0.5 * at, throttled=0.75 * at), at) for at in range(5, 181, 5)]
    lines = [line for line in told if line]
    assert lines == [
        "slow for lack of CPU: for 60 s it has used 0.50 of its 0.5 processors, and was throttled for 75% of the time; "
        "2 would do (MORE_CPUS)"
    ]


def test_without_a_limit_it_is_the_hosts_processors() -> None:
    found = used(processors=2)
    lines = [line for at in range(0, 121, 5) if (line := found.see(reading(2.0 * at, cpus=None), at))]
    assert lines == ["slow for lack of CPU: for 60 s it has used 2.00 of its 2 processors; 4 would do (a larger host)"]


@pytest.mark.parametrize("share", [0.1, 0.8])
def test_a_phase_that_is_not_held_up_is_not_told_of(share: float) -> None:
    found = used()
    assert not any(found.see(reading(0.5 * share * at, throttled=0.1 * at), at) for at in range(0, 301, 5))


def test_a_short_burst_is_not_told_of() -> None:
    found = used()
    busy = [found.see(reading(0.5 * at, throttled=0.5 * at), at) for at in range(0, 56, 5)]
    calm = [found.see(reading(27.5, throttled=27.5), at) for at in range(120, 241, 5)]
    assert not any([*busy, *calm])


def test_a_kill_for_memory_names_what_was_not_enough_and_what_would_do() -> None:
    found = used()
    found.see(reading(1), 5)
    assert found.out_of_memory() == ("killed because memory ran out: 64 MiB were not enough; try 128 MiB (MORE_MEMORY)")
    assert used().out_of_memory() == "killed because memory ran out"


def test_a_cgroup_of_version_2_is_read(tmp_path: Path) -> None:
    assert read_cgroup(tmp_path) is None
    files = {
        "cpu.stat": "usage_usec 2500000\nuser_usec 1\nnr_throttled 3\nthrottled_usec 750000\n",
        "cpu.max": "50000 100000\n",
        "memory.current": f"{40 * MIB}\n",
        "memory.stat": f"anon 1\ninactive_file {10 * MIB}\n",
        "memory.peak": f"{50 * MIB}\n",
        "memory.max": f"{64 * MIB}\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert read_cgroup(tmp_path) == Reading(
        cpu_seconds=2.5,
        throttled_seconds=0.75,
        memory_bytes=30 * MIB,
        memory_peak_bytes=50 * MIB,
        cpus=0.5,
        memory_limit_bytes=64 * MIB,
    )
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    found = read_own_cgroup(tmp_path)
    assert found
    assert (found.cpus, found.memory_limit_bytes) == (None, None)


def test_a_cgroup_of_version_1_is_read(tmp_path: Path) -> None:
    files = {
        "cpuacct/cpuacct.usage": "2500000000",
        "cpu/cpu.stat": "nr_periods 3\nthrottled_time 750000000\n",
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "memory/memory.usage_in_bytes": str(40 * MIB),
        "memory/memory.stat": f"cache 1\ntotal_inactive_file {10 * MIB}\n",
        "memory/memory.max_usage_in_bytes": str(50 * MIB),
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    found = read_own_cgroup(tmp_path)
    assert found
    assert found == Reading(cpu_seconds=2.5, throttled_seconds=0.75, memory_bytes=30 * MIB, memory_peak_bytes=50 * MIB)
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("150000")
    assert (read_own_cgroup(tmp_path) or found).cpus == 1.5


def test_of_a_cgroup_that_was_there_before_only_what_came_since_counts() -> None:
    first, now = reading(10, throttled=2), reading(12, throttled=2.5)
    assert since(first, now) == reading(2, throttled=0.5)


def test_processes_are_read_where_no_cgroup_is_their_own() -> None:
    found = read_processes([os.getpid(), 0])
    assert found
    assert found.cpu_seconds > 0
    assert found.memory_bytes > MIB
    assert read_processes([2**22 + 1]) is None


def test_an_engines_figures_are_read_of_both_versions() -> None:
    stats = {
        "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}, "throttling_data": {"throttled_time": 750_000_000}},
        "memory_stats": {
            "usage": 40 * MIB,
            "max_usage": 50 * MIB,
            "limit": 64 * MIB,
            "stats": {"total_inactive_file": 10 * MIB},
        },
    }
    expected = Reading(
        cpu_seconds=2.5,
        throttled_seconds=0.75,
        memory_bytes=30 * MIB,
        memory_peak_bytes=50 * MIB,
        cpus=0.5,
        memory_limit_bytes=64 * MIB,
    )
    assert read_stats(stats, 0.5) == expected
    newer = {**stats, "memory_stats": {"usage": 40 * MIB, "limit": 64 * MIB, "stats": {"inactive_file": 10 * MIB}}}
    assert read_stats(newer, 0.5) == Reading(
        cpu_seconds=2.5, throttled_seconds=0.75, memory_bytes=30 * MIB, cpus=0.5, memory_limit_bytes=64 * MIB
    )
    assert read_stats({"cpu_stats": {}, "memory_stats": {}}, None) is None
