"""Finding and ending processes of a phase from outside, when its warden is gone."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

RUN, ATTEMPT = "QUAYMASTER_RUN", "QUAYMASTER_ATTEMPT"
SAME_START = 0.05
"""Seconds by which the start time of one process may seem to differ between two readings."""
PATIENCE = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5


@dataclass(frozen=True)
class Mark:
    """What every process of an attempt carries in its environment."""

    run: str
    attempt: int


@dataclass(frozen=True)
class Identified:
    """A process that cannot be mistaken for a later one with its number."""

    pid: int
    started: float


def mark_of(environment: Mapping[str, str]) -> Mark:
    """The mark in a phase's environment."""
    return Mark(environment.get(RUN, ""), int(environment.get(ATTEMPT, "0")))


def identify(pid: int) -> Identified | None:
    """The process that has this number now."""
    try:
        return Identified(pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def find(identified: Identified) -> psutil.Process | None:
    """The process, if it still lives and is the same one."""
    try:
        process = psutil.Process(identified.pid)
        same = abs(process.create_time() - identified.started) <= SAME_START
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def still_alive(known: Iterable[Identified]) -> Sequence[int]:
    """The pids of those that live."""
    return [one.pid for one in known if find(one)]


def describe(pids: Iterable[int]) -> str:
    """Processes for people: number and name."""
    told: list[str] = []
    for pid in pids:
        with suppress(psutil.Error):
            told.append(f"{pid} ({psutil.Process(pid).name()})")
    return ", ".join(told)


def marked(mark: Mark) -> list[psutil.Process]:
    """Every living process with this mark that may be looked at."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            same = environment.get(RUN) == mark.run and environment.get(ATTEMPT) == str(mark.attempt)
            if same and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def tree(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    """These processes and all that descend from them."""
    found: dict[int, psutil.Process] = {}
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            for process in [root, *root.children(recursive=True)]:
                found[process.pid] = process
    return list(found.values())


async def kill_marked(mark: Mark) -> Sequence[int]:
    """Kill every process with this mark; the pids of those that could not be ended."""
    return await kill_until_gone(lambda: tree(marked(mark))) if mark.run else ()


async def kill_until_gone(find_all: Callable[[], Sequence[psutil.Process]]) -> Sequence[int]:
    """Kill what is found until nothing is, or PATIENCE is over; the pids of what could not be ended."""
    loop = asyncio.get_running_loop()
    until, pause = loop.time() + PATIENCE, FIRST_PAUSE
    while processes := find_all():
        for process in processes:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.kill()
        if loop.time() > until:
            return [process.pid for process in processes]
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
    return ()
