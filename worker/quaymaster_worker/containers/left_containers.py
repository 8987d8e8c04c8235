"""Containers that no agent of this host looks after any more. Labels say whose they are."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from quaymaster_worker.containers.engine import Engine
from quaymaster_worker.errors import EngineRefused, EngineUnreachable

FOLDER, AGENT = "io.quaymaster.folder", "io.quaymaster.agent"
RUN, ATTEMPT = "io.quaymaster.run", "io.quaymaster.attempt"

log = logging.getLogger("quaymaster.containers")


def labels_of(folder: Path, agent: str, run: str, attempt: str) -> dict[str, str]:
    """What each container carries: the state folder and the agent (by its state file's name) that started it."""
    return {FOLDER: str(folder), AGENT: agent, RUN: run, ATTEMPT: attempt}


def remove_labelled(engine: Engine, labels: Mapping[str, str], is_ours: Callable[[str], bool] = lambda _: True) -> int:
    """Remove the containers with these labels whose agent is ours to judge; how many there were.

    Raises EngineRefused, EngineUnreachable.
    """
    found = [one for one in engine.labelled(labels) if is_ours(one["Labels"].get(AGENT, ""))]
    for one in found:
        engine.remove_now(one["Id"])
    return len(found)


def remove_of_run(engine: Engine, folder: Path, run: str, attempt: int) -> bool:
    """Remove what a dead agent's attempt left; whether nothing of it is there."""
    try:
        remove_labelled(engine, {FOLDER: str(folder), RUN: run, ATTEMPT: str(attempt)})
    except (EngineRefused, EngineUnreachable) as error:
        log.error("a crashed agent's containers cannot be removed", extra={"run": run, "error": str(error)})
        return False
    return True


def remove_strays(engine: Engine, folder: Path, agents: Path) -> None:
    """Remove containers of agents that have no state file any more: nothing else names them."""
    try:
        gone = remove_labelled(engine, {FOLDER: str(folder)}, lambda name: not (agents / f"{name}.json").exists())
    except (EngineRefused, EngineUnreachable) as error:
        log.warning("left-over containers were not looked for", extra={"error": str(error)})
    else:
        if gone:
            log.warning("removed containers that no agent looks after", extra={"count": gone})
