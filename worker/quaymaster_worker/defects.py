"""What nobody foresaw: a process that goes on after it is a zombie, so it says where, ends its phases, and ends."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("quaymaster.main")


def watched[T](task: asyncio.Task[T]) -> asyncio.Task[T]:
    """A task whose failure is a defect, also if nobody waits for it."""
    task.add_done_callback(_tell)
    return task


def end_on_defects(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    """From now on whatever a callback or a watched task raises is logged with its traceback, and ends the process."""

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error: BaseException | None = context.get("exception")
        log.error("a defect of the agent: %s", context["message"], exc_info=error)
        if error is not None:
            end()

    loop.set_exception_handler(handle)


def _tell(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()):
        context = {"message": f"{task.get_name()} failed", "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)
