"""Whatever a callback or a task raises that nobody foresaw is logged with its traceback, and ends the agent."""

import asyncio
from collections.abc import Callable

import pytest
from quaymaster_worker.defects import end_on_defects, watched


def ended(story: Callable[[asyncio.AbstractEventLoop], object]) -> int:
    """How often the agent was told to end."""
    times = 0

    def end() -> None:
        nonlocal times
        times += 1

    async def play() -> None:
        loop = asyncio.get_running_loop()
        end_on_defects(loop, end)
        story(loop)
        await asyncio.sleep(0.05)

    asyncio.run(play())
    return times


def breaking() -> None:
    raise RuntimeError("nobody foresaw this")


async def breaking_later() -> None:
    await asyncio.sleep(0)
    breaking()


async def waiting() -> None:
    await asyncio.sleep(60)


STORIES: list[Callable[[asyncio.AbstractEventLoop], object]] = [
    lambda loop: loop.call_soon(breaking),
    lambda loop: loop.call_later(0.01, breaking),
    lambda loop: loop.call_soon_threadsafe(breaking),
    lambda loop: watched(loop.create_task(breaking_later())),
]


@pytest.mark.parametrize("story", STORIES)
def test_a_defect_ends_the_agent_and_leaves_its_traceback(
    story: Callable[[asyncio.AbstractEventLoop], object], caplog: pytest.LogCaptureFixture
) -> None:
    assert ended(story) == 1
    (record,) = [record for record in caplog.records if record.name == "quaymaster.main"]
    assert record.exc_info
    assert record.exc_info[0] is RuntimeError


def test_a_task_that_is_cancelled_is_no_defect() -> None:
    def story(loop: asyncio.AbstractEventLoop) -> None:
        task = watched(loop.create_task(waiting()))
        loop.call_soon(task.cancel)

    assert ended(story) == 0
