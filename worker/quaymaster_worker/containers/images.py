"""Which image a phase runs in, and how it comes to this host."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quaymaster.domain.messages import Assign, ImageRule, ImageUsed
from quaymaster.domain.requests import Tool
from quaymaster.domain.states import Reason
from quaymaster.domain.stopped_tasks import Words, judge_start
from quaymaster.domain.trouble import TroubleKind

from quaymaster_worker.configuration.docker_options import DockerOptions, Pull
from quaymaster_worker.containers.engine import Engine, in_daemon_thread
from quaymaster_worker.errors import EngineRefused, EngineUnreachable, PreparationFailed

TELL_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
LONGEST_NOTE = 200


def choose_image(assign: Assign, options: DockerOptions) -> ImageUsed:
    """The image of a run: its request's, else the host's for its tool, else its pool's, else the deployment's.

    Raises PreparationFailed where none is named.
    """
    own = options.default_ansible_image if assign.tool == Tool.ANSIBLE else options.default_image
    if assign.image:
        return ImageUsed(name=assign.image, rule=ImageRule.REQUEST)
    if own:
        return ImageUsed(name=own, rule=ImageRule.LAUNCHER)
    if assign.default_image:
        return assign.default_image
    variable = f"QUAYMASTER_DEFAULT_{'ANSIBLE_' * (assign.tool == Tool.ANSIBLE)}RUNNER_IMAGE"
    note = f"no image is named: by the request, by {variable} of this host, by the pool, or by the deployment"
    raise PreparationFailed(Reason.IMAGE_PULL, note)


def is_pulled(image: str, pull: Pull | None) -> bool:
    """Whether an image that is there is asked for again: by default one whose name may come to mean another."""
    if pull:
        return pull is Pull.ALWAYS
    name = image.rpartition("/")[2]
    return "@" not in name and (":" not in name or name.endswith(":latest"))


@dataclass(frozen=True)
class Images:
    """The images of an engine. `clock` is monotonic."""

    engine: Engine
    pull: Pull | None
    clock: Callable[[], float]

    async def bring(self, image: str, say: Callable[[str], None], seconds: float) -> None:
        """Have it here, within so many seconds; what may pass is tried again. Raises PreparationFailed."""
        until, pause = self.clock() + seconds, FIRST_PAUSE
        while True:
            try:
                await self._bring(image, say)
                return
            except EngineUnreachable as error:
                note, passes = f"the container engine does not answer: {error}", True
            except EngineRefused as error:
                note, passes = f"image {image}: {error.words}", _passes(error.words)
            if not passes or self.clock() + pause >= until:
                say(note)
                raise PreparationFailed(Reason.IMAGE_PULL, note[:LONGEST_NOTE])
            say(f"{note}; tried again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _bring(self, image: str, say: Callable[[str], None]) -> None:
        there = await self.engine.has_image(image)
        if there and not is_pulled(image, self.pull):
            return
        say(f"pulling image {image}")
        began = self.clock()
        try:
            await self._pull(image, say)
        except EngineRefused as error:
            if not there:
                raise
            say(f"the image cannot be pulled, and the one that is here is used: {error.words}")
        else:
            say(f"image {image} is here, after {self.clock() - began:.1f} s")

    async def _pull(self, image: str, say: Callable[[str], None]) -> None:
        loop, given_up = asyncio.get_running_loop(), threading.Event()

        def work() -> None:
            progress, told = Progress(), self.clock()
            for line in self.engine.pull(image):
                progress.see(line)
                if given_up.is_set():
                    return
                if self.clock() - told >= TELL_SECONDS:
                    told = self.clock()
                    loop.call_soon_threadsafe(say, f"pulling image {image}: {progress}")

        try:
            await in_daemon_thread(work)
        finally:
            given_up.set()


class Progress:
    """How far a pull has come, by what the engine says of each layer."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int, bool]] = {}

    def see(self, line: Mapping[str, Any]) -> None:
        """One line of the engine's."""
        layer, status = line.get("id"), str(line.get("status", ""))
        detail: Mapping[str, int] = line.get("progressDetail") or {}
        if not layer or status.startswith("Pulling from"):
            return
        done, size, whole = self._layers.get(layer, (0, 0, False))
        if status == "Downloading":
            done, size = detail.get("current", done), detail.get("total", size)
        elif status in {"Download complete", "Pull complete", "Already exists"}:
            done, whole = size, status != "Download complete"
        self._layers[layer] = (done, size, whole)

    def __str__(self) -> str:
        ready = sum(whole for _, _, whole in self._layers.values())
        done, size = (sum(layer[part] for layer in self._layers.values()) for part in (0, 1))
        return f"{ready} of {len(self._layers)} layers, {done / 1e6:.1f} of {size / 1e6:.1f} MB"


def _passes(words: str) -> bool:
    """Whether a pull that failed so may go well the next time: by the same rules as for tasks."""
    found = judge_start(Words(stopped_reason=f"CannotPullContainerError: {words}"))
    return found.kind is TroubleKind.PASSING
