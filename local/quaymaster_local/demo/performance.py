"""The demo from end to end: the cloud up, the story played on a screen, the verdict, and nothing left behind."""

import asyncio
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast

from quaymaster.domain.pool import PoolKind
from quaymaster_sealing.keys import generate_key
from rich.console import Console
from rich.live import Live

from quaymaster_local.cloud import LocalCloud
from quaymaster_local.demo.api import DemoApi
from quaymaster_local.demo.board import Board, Line
from quaymaster_local.demo.errors import DemoFailed
from quaymaster_local.demo.report import show_verdicts, tell_plainly
from quaymaster_local.demo.screen import draw
from quaymaster_local.demo.story import SWEEP_SECONDS, Stage, play, sweep
from quaymaster_local.demo.verdict import Verdict, judge
from quaymaster_local.demo.watching import watch_states
from quaymaster_local.errors import LocalCloudError
from quaymaster_local.settings import load_settings

LOGS = Path("build/demo")
PLAIN_WIDTH = 120
FRAME_SECONDS = 0.15
LIMIT_SECONDS = 180.0
"""For everything between the cloud's start and its end."""
INTERRUPTED = 130


def main() -> int:
    """Run the demo; 0 if every run ended as it should, 1 if not, 130 when it was interrupted."""
    terminal = Console(highlight=False)
    console = terminal if terminal.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    began = time.monotonic()
    try:
        code = _run(console)
    except KeyboardInterrupt:
        console.print("interrupted; nothing is left running", style="yellow")
        return INTERRUPTED
    except LocalCloudError as error:
        console.print(f"the demo failed: {error}", style="bold red", markup=False, soft_wrap=True)
        return 1
    console.print(f"everything is taken down; {time.monotonic() - began:.0f} s in all", style="dim")
    return code


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


def _run(console: Console) -> int:
    settings = load_settings()
    logs = settings.source / LOGS
    shutil.rmtree(logs, ignore_errors=True)
    try:
        return _perform(console, partial(LocalCloud, "demo", settings=settings, logs=logs))
    except (KeyboardInterrupt, LocalCloudError):
        raise
    except Exception as error:
        # Whatever else goes wrong: one line for who watches, the rest for who repairs it.
        logs.mkdir(parents=True, exist_ok=True)
        (logs / "demo.log").write_text(traceback.format_exc())
        first = _first(error)
        text = str(first).partition("\n")[0]
        raise DemoFailed(f"{type(first).__name__}: {text} (more in {LOGS}/demo.log)") from error


def _perform(console: Console, cloud_of: Callable[..., LocalCloud]) -> int:
    console.print("[bold]Quaymaster[/bold]: the deployed system, on a cloud on this machine. Ctrl-C ends it.")
    with ThreadPoolExecutor(1) as threads:
        # RSA keys take their time, and the cloud too.
        keys = {kind: threads.submit(generate_key) for kind in PoolKind}
        with console.status("bringing the local cloud up"):
            cloud = cloud_of(tell=partial(console.print, style="dim")).__enter__()
        try:
            board = Board(_tell_nobody if console.is_terminal else partial(tell_plainly, console))
            board.happened(f"the reaper is called every {SWEEP_SECONDS:.0f} s here, beside its schedule of a minute")
            made = {kind: key.result() for kind, key in keys.items()}
            failure = asyncio.run(_play(console, cloud, board, made))
            verdicts = judge(board)
            show_verdicts(console, board, verdicts)
            return _conclude(console, verdicts, failure)
        finally:
            # A second Ctrl-C would leave half of it behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            cloud.__exit__(None, None, None)


def _conclude(console: Console, verdicts: list[Verdict], failure: str | None) -> int:
    if failure:
        console.print(f"the demo failed: {failure}; logs are in {LOGS}", style="bold red", markup=False, soft_wrap=True)
    return 1 if failure or any(verdict.wrong for verdict in verdicts) else 0


async def _play(console: Console, cloud: LocalCloud, board: Board, keys: dict[PoolKind, bytes]) -> str | None:
    """Play the story; what went wrong on the way, if something did."""
    failure: str | None = None
    api = DemoApi(cloud.deployment)
    try:
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            beside: list[asyncio.Task[None]] = []

            def start(what: Coroutine[Any, Any, None]) -> None:
                beside.append(group.create_task(what))

            stage = Stage(cloud=cloud, api=api, board=board, keys=keys, start=start)
            start(watch_states(api, board))
            start(sweep(stage))
            if console.is_terminal:
                start(_show(console, board))
            await play(stage)
            for task in beside:
                task.cancel()
    except* LocalCloudError as errors:
        failure = str(_first(errors))
    except* TimeoutError:
        failure = f"it took longer than {LIMIT_SECONDS:.0f} s"
    finally:
        await api.close()
    return failure


async def _show(console: Console, board: Board) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(draw(board, console.size.height), refresh=True)
            await asyncio.sleep(FRAME_SECONDS)


def _first(error: BaseException) -> BaseException:
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    return _first(group.exceptions[0])


def _tell_nobody(line: Line) -> None:
    """The screen shows it."""
